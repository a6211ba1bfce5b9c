"""The course: short lessons that train real runs, each with a goal that the page checks."""

from __future__ import annotations

import streamlit as st

from moe_sim.teaching.course.catalogue import LESSONS
from moe_sim.teaching.course.lesson import Lesson, passed
from pages.dashboard import run_board
from pages.text import prose
from pages.visitor import hosting
from pages.visitor.session import Session, current

CHECK_INTERVAL = 1.0
"""Seconds between checks of the goal."""


def _choose(lesson: Lesson) -> None:
    st.session_state["lesson"] = lesson.slug


def _start(session: Session, lesson: Lesson) -> None:
    """Starts the lesson's run and opens its tab."""
    session.restart(lesson.config(session.run.config.seed), lesson.plan, train=False)
    session.turn_to(lesson.tab)


def _contents(done: set[str], chosen: Lesson) -> None:
    with st.container(horizontal=True, key="presets-lessons"):
        for number, lesson in enumerate(LESSONS, start=1):
            st.button(
                f"{'✓ ' if lesson.slug in done else ''}{number}. {lesson.title}", key=f"lesson-{lesson.slug}",
                type="primary" if lesson is chosen else "secondary", on_click=_choose, args=(lesson,),
            )  # fmt: skip


@st.fragment(run_every=CHECK_INTERVAL)
def _goal(session: Session, lesson: Lesson) -> None:
    """Shows the criteria, each met or not, and the debrief once all are met."""
    run = session.run
    criteria = lesson.check(run.history, run.config)
    st.markdown(f"**Goal.** {lesson.goal}")
    prose.checklist(
        ((f"{one.text} ({one.value})" if one.value else one.text, one.met) for one in criteria), session.view.level
    )
    if not passed(criteria):
        return
    st.success(f"Done: lesson “{lesson.title}” passed at step {len(run.history)}.")
    prose.show(lesson.debrief(run.history, run.config), session.view.level)
    done: set[str] = st.session_state["lessons_done"]
    if lesson.slug not in done:
        done.add(lesson.slug)
        st.rerun()


hosting.stand_in_frame()
visitor = current()
done: set[str] = st.session_state.setdefault("lessons_done", set())
slug = st.session_state.setdefault("lesson", LESSONS[0].slug)
lesson = next(one for one in LESSONS if one.slug == slug)
number = LESSONS.index(lesson)

_contents(done, lesson)
st.subheader(f"{number + 1}. {lesson.title}", anchor=False)
story, look, goal = st.columns([1.15, 1, 1.1])
with story:
    prose.show(lesson.story[visitor.view.level], visitor.view.level)
    st.button("Start this lesson", type="primary", on_click=_start, args=(visitor, lesson),
              help="Sets the knobs and restarts from step 0. Then press Train below.")  # fmt: skip
with look:
    st.markdown("**Look for**")
    prose.listing(lesson.look_for, visitor.view.level)
    with st.expander("Hint"):
        prose.show([lesson.hint], visitor.view.level)
with goal:
    _goal(visitor, lesson)
    if number + 1 < len(LESSONS):
        st.button("Next lesson", on_click=_choose, args=(LESSONS[number + 1],))
run_board.show(visitor)
