"""Questions with explained answers, many of them drawn from real runs."""

from __future__ import annotations

import random

import streamlit as st

from moe_sim.charts.quiz import plot_figure
from moe_sim.teaching.quiz.catalogue import QUESTIONS, drawn_by_key
from moe_sim.teaching.quiz.question import Drawn, Option, Plot, Question, draw
from pages.visitor import hosting
from pages.visitor.session import current
from pages.visitor.theme import current_theme

LETTERS = "ABCD"
MOST_WAITING = 4
"""How many questions may wait for their runs. While more do, only questions without runs are asked."""

hosting.stand_in_frame()
session = current()
level = session.view.level
theme = current_theme()
progress = session.quiz


def _next_question() -> tuple[Question, int]:
    """A question of the reader's level that was not asked recently, and its seed. The same one if the script was
    interrupted while it was drawn."""
    if progress.next is not None and progress.next[0].level == level:
        return progress.next
    is_busy = session.server.errands.waiting >= MOST_WAITING
    pool = [one for one in QUESTIONS if one.level == level and not (one.is_drawn and is_busy)]
    fresh = [question for question in pool if question.key not in progress.asked] or pool
    return progress.choose(random.choice(fresh), random.randrange(1000))


def _drawn() -> Drawn:
    """The question on the screen, if it is for the reader's level; else the next one."""
    if progress.drawn is not None and progress.drawn.question.level == level:
        return progress.drawn
    question, seed = _next_question()
    if question.is_drawn:
        with st.spinner("Training the routers for this question …"):
            drawn: Drawn = session.server.errands.wait_for(drawn_by_key, question.key, seed)
    else:
        drawn = draw(question, seed)
    progress.show(drawn)
    return drawn


def _picture(plot: Plot, key: str) -> None:
    st.plotly_chart(plot_figure(plot, theme), key=key, theme=None, config={"displayModeBar": False})


st.title("Quiz", anchor=False)
drawn = _drawn()
answered, score, number = progress.answer, progress.score, progress.number

source = "From runs trained just now." if drawn.question.is_drawn else ""
st.caption(
    f"{score.right} right, {score.wrong} wrong so far. Questions for the level in the sidebar: {level}. {source}"
)
st.header(drawn.text, anchor=False)
if drawn.plots:
    for index, (column, plot) in enumerate(zip(st.columns(len(drawn.plots)), drawn.plots, strict=True)):
        with column:
            _picture(plot, f"quiz-{number}-plot-{index}")


def _option(index: int, option: Option) -> None:
    """An option as a button; after the answer, the right one with a tick and the visitor's own outlined."""
    if option.plot:
        _picture(option.plot, f"quiz-{number}-option-{index}")
    is_right, is_chosen = index == drawn.right, index == answered
    fate = "open" if answered is None else "-".join(
        word for word, holds in (("right", is_right), ("chosen", is_chosen), ("other", not is_right)) if holds
    )  # fmt: skip
    st.button(
        f"{LETTERS[index]}. {option.text}".replace("$", "\\$"), key=f"quiz-{fate}-{number}-{index}", width="stretch",
        icon=":material/check:" if answered is not None and is_right else None,
        on_click=progress.answer_with, args=(index,), disabled=answered is not None,
    )  # fmt: skip
    if answered is not None and (is_right or is_chosen):
        word = "Right" if is_right else "Not quite"
        (st.success if is_right else st.warning)(f"{word}. {option.explanation}".replace("$", "\\$"))


row = 2 if any(option.plot for option in drawn.options) else 1
for first in range(0, len(drawn.options), row):
    options = drawn.options[first : first + row]
    for index, (column, option) in enumerate(zip(st.columns(row), options, strict=False), start=first):
        with column:
            _option(index, option)
if answered is not None:
    st.button("Next question", type="primary", on_click=progress.go_on)
