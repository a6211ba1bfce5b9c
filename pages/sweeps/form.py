"""The form of a new sweep, in the sidebar: up to three knobs with their values, seeds and steps."""

from __future__ import annotations

import os
from typing import Any

import streamlit as st

from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import value_in_words
from moe_sim.sweep.estimate import Estimate
from moe_sim.sweep.grid import Cell, Grid, parse_values
from moe_sim.sweep.wording import duration, suggested_values
from pages.sweeps.my_sweeps import MySweeps
from pages.text.markdown import escape_markdown
from pages.visitor.session import Session
from pages.visitor.widgets import one_of, reported, text_of, whole_number_in

NUMBERS = ("First", "Second", "Third")
NONE = "none"
FIRST_KNOBS = ("aux_loss_coef", "num_experts", NONE)
"""The initial selection."""
SEEDS, MOST_SEEDS = 3, 20
STEPS, LEAST_STEPS, MOST_STEPS = 300, 10, 5_000
REFRESH = 1.0
"""Seconds between looks whether the duration has been measured."""
PATIENCE = 10.0
"""Seconds for which Start waits for that."""


def draw(session: Session, sweeps: MySweeps) -> None:
    """Draws the form, the number of runs with the estimated time, and the Start button."""
    st.header("New sweep", anchor=False)
    base = session.run.config
    _draw_axes(base)
    left, right = st.columns(2)
    left.number_input("Seeds", 1, MOST_SEEDS, key=_form_key("seeds", SEEDS), help=(
        f"Runs per combination, with the seeds {base.seed}, {base.seed + 1}, … starting from that of the Live run."
    ))  # fmt: skip
    right.number_input("Steps", LEAST_STEPS, MOST_STEPS, step=50, key=_form_key("steps", STEPS))
    try:
        _offer(session, sweeps, _filled_in(session))
    except InvalidInput as error:
        st.warning(escape_markdown(str(error)))
        st.button("Start", width="stretch", disabled=True, key="sweep-no-start")
    st.caption(_base_in_words(base, _axes()))


def _draw_axes(base: RunConfig) -> None:
    """Draws the choices of knobs and the fields for their values."""
    taken: list[str] = []
    usable = [knob.name for knob in KNOBS.values() if knob.is_offered(base.task)]
    for number, first in zip(NUMBERS, FIRST_KNOBS, strict=True):
        options = [name for name in usable if name not in (*taken, "seed", "frozen")]
        options = [NONE, *options] if taken else options
        chosen = st.selectbox(
            f"{number} knob", options, key=_form_key(number, first, options),
            format_func=lambda name: NONE if name == NONE else KNOBS[name].label,
            label_visibility="collapsed",
        )  # fmt: skip
        name = one_of(chosen, options, options[0])
        if name == NONE:
            continue
        taken.append(name)
        st.text_input(
            f"Values of {KNOBS[name].label}", key=_form_key(f"values_{name}", suggested_values(KNOBS[name])),
            label_visibility="collapsed",
            help="Comma-separated values or a range: 2..8 for all whole numbers, 0..1:5 for five evenly spaced values, "
            "0.001..1:4:log for four on a log scale.",
        )  # fmt: skip


def _axes() -> dict[str, str]:
    """The chosen knobs with their values as text, as the form shows them now."""
    names = dict.fromkeys(one_of(_field(number), KNOBS, NONE) for number in NUMBERS)
    return {name: text_of(_field(f"values_{name}", suggested_values(KNOBS[name]))) for name in names if name != NONE}


def _filled_in(session: Session) -> Grid:
    """The sweep that the form describes now.

    Raises:
        InvalidInput: for values that are not understood, and for a sweep beyond the limits.
    """
    base, seeds = session.run.config, whole_number_in(_field("seeds"), 1, MOST_SEEDS, SEEDS)
    steps = whole_number_in(_field("steps"), LEAST_STEPS, MOST_STEPS, STEPS)
    grid = Grid(base, {name: parse_values(name, text) for name, text in _axes().items()}, seeds, steps)
    session.server.sweeps.limits.check(runs=_most_runs(grid), steps=_most_runs(grid) * steps)
    return grid


def _field(name: str, default: Any = None) -> Any:
    return reported(f"sweep_form_{name}", default)


def _form_key(name: str, value: Any, options: list[str] | None = None) -> str:
    """Returns the key of a widget that starts with `value`, and returns to it if its own value is no longer offered.
    The frame keeps the values under such keys while other pages are open."""
    key = f"sweep_form_{name}"
    st.session_state.setdefault(key, value)
    if options is not None and st.session_state.get(key, value) not in options:
        st.session_state[key] = value if value in options else options[0]
    return key


def _base_in_words(base: RunConfig, axes: dict[str, str]) -> str:
    changed = [
        f"{KNOBS[name].label} {value_in_words(value)}"
        for name, value in base.model_dump().items()
        if name not in axes and name != "seed" and value != KNOBS[name].default
    ]
    rest = f": {', '.join(changed)}, the rest at the defaults" if changed else ", which uses the defaults"
    return escape_markdown(f"Everything else is as in your run on the Live page{rest}.")


def _most_runs(grid: Grid) -> int:
    """The number of runs, including invalid combinations."""
    runs = grid.seeds
    for values in grid.axes.values():
        runs *= len(values)
    return runs


def _offer(session: Session, sweeps: MySweeps, grid: Grid) -> None:
    cells = grid.cells()
    missing = sweeps.missing(grid)
    known = f", {len(cells) - len(missing):,} of them already done" if len(missing) < len(cells) else ""
    size = f"**{len(cells):,} run{'s' * (len(cells) != 1)}**{known}"
    estimate = _estimate(session, missing)
    if estimate is None:
        st.fragment(_measuring, run_every=REFRESH)(session, missing, size)
    else:
        session.server.sweeps.limits.check_time(estimate)
        st.markdown(size + (f", {duration(estimate.seconds)}" if missing else ""))
    usable = bool(cells) and not sweeps.under_way
    st.button(
        "Start", type="primary" if usable else "secondary", width="stretch", disabled=not usable, key="sweep-start",
        on_click=_start, args=(session, sweeps),
        help="One sweep at a time: cancel the current one first." if sweeps.under_way else None,
    )  # fmt: skip
    for reason, count in grid.left_out().items():
        st.caption(escape_markdown(f"{count:,} run{'s' * (count != 1)} with invalid combinations skipped. {reason}"))


def _estimate(session: Session, cells: list[Cell], patience: float = 0.0) -> Estimate | None:
    """How long some runs take; None while that is being measured."""
    return session.server.estimates.of(cells, os.cpu_count() or 1, patience)


def _measuring(session: Session, cells: list[Cell], size: str) -> None:
    """Says so until the duration is known, then draws the page again."""
    if _estimate(session, cells) is None:
        st.markdown(f"{size}, measuring how long they take …")
    else:
        st.rerun()


def _start(session: Session, sweeps: MySweeps) -> None:
    """Starts what the form shows when Start is pressed, which may be newer than what the last script run drew."""
    try:
        grid = _filled_in(session)
        estimate = _estimate(session, sweeps.missing(grid), PATIENCE)
        if estimate is None:
            raise InvalidInput("How long this sweep takes is still being measured. Press Start again in a moment.")
        sweeps.start(grid, estimate)
    except InvalidInput as error:
        session.notices.append(str(error))
