"""Where a visitor is in the course, and the predictions made in it."""

from __future__ import annotations

import streamlit as st

from moe_sim.teaching.course.catalogue import COURSE
from moe_sim.teaching.course.lesson import Chapter, Lesson

PREDICTION = "prediction_"
"""Prefix of the keys under which predictions are kept."""


def chosen() -> Chapter:
    """The lesson that is open; at first the first one."""
    slug = st.session_state.setdefault("lesson", COURSE[0].slug)
    return next(one for one in COURSE if one.slug == slug)


def trains_live_run() -> bool:
    """Whether the open lesson trains the visitor's live run."""
    return isinstance(chosen(), Lesson)


def choose(lesson: Chapter) -> None:
    """Opens a lesson."""
    st.session_state["lesson"] = lesson.slug


def passed_lessons() -> set[str]:
    """The slugs of the lessons passed so far; add to it."""
    return st.session_state.setdefault("lessons_done", set())


def prediction_key(lesson: Chapter, number: int) -> str:
    """The key of the widget with the answer to one of the lesson's questions."""
    return f"{PREDICTION}{lesson.slug}_{number}"
