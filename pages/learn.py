"""The course: short lessons that train real runs, each with a goal that the page checks."""

from __future__ import annotations

import math
from pathlib import Path

import streamlit as st

from moe_sim.charts.traces import TraceScene
from moe_sim.config.comparison_presets import COMPARISONS, MOST_SEEDS
from moe_sim.config.run_plan import NAMES, RunPlan
from moe_sim.history.trace import TraceHistory, open_trace
from moe_sim.teaching.course.catalogue import COURSE
from moe_sim.teaching.course.lesson import (
    Chapter,
    ComparisonLesson,
    Lesson,
    Paragraphs,
    Reference,
    TraceLesson,
    passed,
)
from moe_sim.teaching.course.playing import reference_loss
from moe_sim.teaching.level import Level
from pages.dashboard import comparison_board, run_board
from pages.text import prose
from pages.traces import charts as trace_charts
from pages.visitor import hosting
from pages.visitor.commands import obey_beside
from pages.visitor.comparison import ComparisonSession
from pages.visitor.course import CourseProgress, prediction_key
from pages.visitor.session import Session, current
from pages.visitor.theme import current_theme
from pages.visitor.widgets import one_of

CHECK_INTERVAL = 1.0
"""Seconds between checks of the goal."""
COLLAPSES, STAYS = "collapses", "stays in use"


def _contents(progress: CourseProgress) -> None:
    with st.container(horizontal=True, key="presets-lessons"):
        for number, lesson in enumerate(COURSE, start=1):
            st.button(
                f"{'✓ ' if lesson.slug in progress.passed else ''}{number}. {lesson.title}",
                key=f"lesson-{lesson.slug}", type="primary" if lesson is progress.lesson else "secondary",
                on_click=progress.open, args=(lesson,),
            )  # fmt: skip


def _look_for(lesson: Chapter, level: Level) -> None:
    st.markdown("**Look for**")
    prose.listing(lesson.look_for, level)
    with st.expander("Hint"):
        prose.show([lesson.hint], level)


def _next(progress: CourseProgress, lesson: Chapter) -> None:
    number = COURSE.index(lesson)
    if number + 1 < len(COURSE):
        is_passed = lesson.slug in progress.passed
        if st.button("Next lesson", type="primary" if is_passed else "secondary"):
            progress.open(COURSE[number + 1])
            st.rerun()  # the whole page, not only the goal


def _celebrate(session: Session, lesson: Chapter, step: int, debrief: Paragraphs) -> None:
    st.success(f"Done: lesson “{lesson.title}” passed at step {step:,}.")
    prose.show(debrief, session.view.level)
    if lesson.slug not in session.course.passed:
        session.course.passed.add(lesson.slug)
        st.rerun()


def _start(session: Session, lesson: Lesson) -> None:
    """Starts the lesson's run and opens its tab."""
    session.restart(lesson.config(session.run.config.seed), lesson.plan, train=False)
    session.turn_to(lesson.tab)
    session.course.begun = lesson


@st.fragment(run_every=CHECK_INTERVAL)
def _goal(session: Session, lesson: Lesson) -> None:
    """Shows the criteria, each met or not, and below all else the debrief once all are met: nothing moves then."""
    run = session.run

    def loss_of(reference: Reference) -> float:
        loss: float | None = session.server.errands.ask(reference_loss, reference)
        return math.nan if loss is None else loss

    criteria = lesson.check(run.history, run.config, loss_of)
    st.markdown(f"**Goal.** {lesson.goal}")
    prose.checklist(criteria, session.view.level)
    _next(session.course, lesson)
    if passed(criteria):
        _celebrate(session, lesson, len(run.history), lesson.debrief(run.history, run.config, loss_of))


def _draw_lesson(session: Session, lesson: Lesson) -> None:
    text, charts = st.columns([1, 1.9])
    own_run = session.run.history.initial_config == lesson.config(session.run.config.seed)
    begun = own_run and session.course.begun is lesson
    with text, st.container(key="lesson-text" if begun else "lesson-text-waiting"):
        prose.show(lesson.story[session.view.level], session.view.level)
        st.button("Start again" if begun else "Start this lesson", type="secondary" if begun else "primary",
                  key="start-lesson", on_click=_start, args=(session, lesson),
                  help="Sets the knobs and restarts from step 0. Then press Train.")  # fmt: skip
        _look_for(lesson, session.view.level)
        _goal(session, lesson)
    with charts, st.container(key="lesson-board"):
        run_board.show(session)


def _plans(lesson: ComparisonLesson, comparison: ComparisonSession) -> tuple[RunPlan, ...]:
    """The lesson's runs, with the seed of the comparison on the screen."""
    return COMPARISONS[lesson.comparison].plans(comparison.run.plans[0].config.seed)


def _is_on_screen(lesson: ComparisonLesson, comparison: ComparisonSession) -> bool:
    """Whether the comparison holds the lesson's runs, and nobody has changed them."""
    return comparison.run.plans == _plans(lesson, comparison)


def _predictions(lesson: ComparisonLesson) -> list[bool | None]:
    keys = (prediction_key(lesson, number) for number in range(len(lesson.experiments)))
    words = (one_of(st.session_state.get(key), (COLLAPSES, STAYS), None) for key in keys)
    return [None if one is None else one == COLLAPSES for one in words]


def _run_experiments(lesson: ComparisonLesson, comparison: ComparisonSession) -> None:
    comparison.begin(_plans(lesson, comparison), train=True)


def _begin_again(session: Session, lesson: ComparisonLesson, comparison: ComparisonSession) -> None:
    """Asks for new predictions, for another seed."""
    session.next_values |= {prediction_key(lesson, number): None for number in range(len(lesson.experiments))}
    seed = comparison.run.plans[0].config.seed + 1
    comparison.begin(COMPARISONS[lesson.comparison].plans(seed % MOST_SEEDS), train=False)


@st.fragment(run_every=CHECK_INTERVAL)
def _verdict(session: Session, lesson: ComparisonLesson, comparison: ComparisonSession) -> None:
    """Shows the criteria, and once they are met, how each prediction fared and what follows."""
    runs = comparison.run
    histories = [run.history for run in runs.members] if _is_on_screen(lesson, comparison) else []
    predictions = _predictions(lesson)
    criteria = lesson.criteria(histories, predictions)
    st.markdown(f"**Goal.** {lesson.goal}")
    prose.checklist(criteria, session.view.level)
    if passed(criteria):
        prose.checklist(lesson.verdicts(histories, predictions), session.view.level, judged=True)
        _celebrate(session, lesson, runs.steps_done, lesson.conclude(histories, predictions))


def _ask(lesson: ComparisonLesson, comparison: ComparisonSession, predicted: bool) -> None:
    """Asks for a prediction of each experiment, then offers to run them."""
    st.markdown("**Predict first**")
    for number, experiment in enumerate(lesson.experiments):
        st.markdown(f"**{NAMES[number]} · {experiment.title}.** {experiment.question}")
        st.segmented_control(
            f"{NAMES[number]} · {experiment.title}. {experiment.question}", (COLLAPSES, STAYS),
            key=prediction_key(lesson, number), label_visibility="collapsed",
        )  # fmt: skip
    st.button(
        "Run the four experiments", type="primary", disabled=not predicted,
        on_click=_run_experiments, args=(lesson, comparison),
        help="Replaces the runs of the Compare page. Answer all four questions first.",
    )  # fmt: skip


def _draw_comparison_lesson(session: Session, lesson: ComparisonLesson) -> None:
    comparison = session.comparison()
    predicted = None not in _predictions(lesson)
    begun = predicted and comparison.run.steps_done > 0 and _is_on_screen(lesson, comparison)
    if begun:
        look, goal = st.columns([1, 1.6])
        with look:
            _look_for(lesson, session.view.level)
            st.button("Predict again, with another seed", on_click=_begin_again, args=(session, lesson, comparison))
    else:
        story, predict, goal = st.columns([1, 1.25, 1.1])
        with story:
            prose.show(lesson.story[session.view.level], session.view.level)
            _look_for(lesson, session.view.level)
        with predict:
            _ask(lesson, comparison, predicted)
    with goal:
        _verdict(session, lesson, comparison)
        _next(session.course, lesson)
    comparison.notices.show()
    comparison_board.show(
        session, comparison.run, lambda command: obey_beside(session, comparison, command), comparison.next_message
    )


@st.cache_resource(show_spinner=False)
def _trace(path: Path) -> TraceHistory:
    return open_trace(path)


def _draw_trace_lesson(session: Session, lesson: TraceLesson) -> None:
    """Shows the question with its answers, and beside it the charts of both traces."""
    level, history, other = session.view.level, _trace(lesson.trace), _trace(lesson.beside)
    text, charts = st.columns([1, 1.9])
    with text:
        prose.show(lesson.story[level], level)
        st.markdown(f"**Goal.** {lesson.goal}")
        _look_for(lesson, level)
        answer = st.radio(f"**{lesson.question}**", [one.text for one in lesson.answers], index=None,
                          key=prediction_key(lesson, 0))  # fmt: skip
        if chosen := next((one for one in lesson.answers if one.text == answer), None):
            prose.show([chosen.reply], level)
        criteria = lesson.check(answer)
        prose.checklist(criteria, level)
        _next(session.course, lesson)
        if passed(criteria):
            _celebrate(session, lesson, len(history), lesson.conclude(history, other))
    with charts, st.container(key="lesson-traces"):
        st.code(lesson.code, language=None, wrap_lines=True)  # colours of a language have too little contrast
        for column, title in zip(st.columns(2), lesson.titles, strict=True):
            column.markdown(f"**{title}**")
        theme = current_theme()
        trace_charts.draw_both(TraceScene(history), TraceScene(other), theme, lesson.figures)


hosting.stand_in_frame()
visitor = current()
lesson = visitor.course.lesson
_contents(visitor.course)
st.header(f"{COURSE.index(lesson) + 1}. {lesson.title}", anchor=False)
if isinstance(lesson, Lesson):
    _draw_lesson(visitor, lesson)
elif isinstance(lesson, ComparisonLesson):
    _draw_comparison_lesson(visitor, lesson)
elif isinstance(lesson, TraceLesson):
    _draw_trace_lesson(visitor, lesson)
