"""The form of a new sweep, in the sidebar: up to three knobs with their values, seeds and steps."""

from __future__ import annotations

import os
from typing import Any

import streamlit as st

from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import value_in_words
from moe_sim.sweep.estimate import estimated_seconds
from moe_sim.sweep.grid import Cell, Grid, parse_values
from moe_sim.sweep.wording import duration, suggested_values
from pages.sweeps.my_sweeps import MySweeps
from pages.text.markdown import escape_markdown
from pages.visitor.session import Session

NUMBERS = ("First", "Second", "Third")
NONE = "none"
FIRST_KNOBS = ("aux_loss_coef", "num_experts", NONE)
"""What the form begins with."""
MOST_SEEDS, MOST_STEPS = 20, 5_000


def draw(session: Session, sweeps: MySweeps) -> None:
    """Show the form, what it would come to, and the way to start it."""
    st.subheader("New sweep", anchor=False)
    base = session.run.config
    axes = _axes(base)
    left, right = st.columns(2)
    seeds = left.number_input("Seeds", 1, MOST_SEEDS, key=_begun_with("seeds", 3), help=(
        f"Each combination is run so often, with the seeds {base.seed}, {base.seed + 1}, … of the run on the Live page."
    ))  # fmt: skip
    steps = right.number_input("Steps", 10, MOST_STEPS, step=50, key=_begun_with("steps", 300))
    try:
        grid = Grid(base, {name: parse_values(name, text) for name, text in axes.items()}, seeds, steps)
        session.server.sweeps.limits.check(runs=_most_runs(grid), steps=_most_runs(grid) * steps)
        _offer(session, sweeps, grid)
    except InvalidInput as error:
        st.warning(escape_markdown(str(error)))
        st.button("Start", width="stretch", disabled=True, key="sweep-no-start")
    st.caption(_base_in_words(base, axes))


def _axes(base: RunConfig) -> dict[str, str]:
    """The chosen knobs with the texts of their values."""
    axes: dict[str, str] = {}
    usable = [knob.name for knob in KNOBS.values() if knob.task in (None, base.task)]
    for number, first in zip(NUMBERS, FIRST_KNOBS, strict=True):
        options = [name for name in usable if name not in (*axes, "seed", "frozen")]
        options = [NONE, *options] if axes else options
        name = st.selectbox(
            f"{number} knob", options, key=_begun_with(number, first, options),
            format_func=lambda name: "no other knob" if name == NONE else KNOBS[name].label,
            label_visibility="collapsed",
        )  # fmt: skip
        if name == NONE:
            continue
        axes[name] = st.text_input(
            f"Values of {KNOBS[name].label}", key=_begun_with(f"values_{name}", suggested_values(KNOBS[name])),
            label_visibility="collapsed",
            help="Values with commas between them; 2..8 for all whole numbers, 0..1:5 for five evenly spaced ones, "
            "0.001..1:4:log for four by powers.",
        )  # fmt: skip
    return axes


def _begun_with(name: str, value: Any, options: list[str] | None = None) -> str:
    """The key of a widget that has that value at first, and again when what it had is no longer offered. The frame
    keeps what stands under such keys when the page is left."""
    key = f"sweep_form_{name}"
    st.session_state.setdefault(key, value)
    if options is not None and st.session_state[key] not in options:
        st.session_state[key] = value if value in options else options[0]
    return key


def _base_in_words(base: RunConfig, axes: dict[str, str]) -> str:
    moved = [
        f"{KNOBS[name].label} {value_in_words(value)}"
        for name, value in base.model_dump().items()
        if name not in axes and name != "seed" and value != KNOBS[name].default
    ]
    rest = f": {', '.join(moved)}, the rest at its default" if moved else ", which is at its defaults"
    return escape_markdown(f"Everything else as in your run on the Live page{rest}.")


def _most_runs(grid: Grid) -> int:
    """Before the combinations that cannot be are taken off."""
    runs = grid.seeds
    for values in grid.axes.values():
        runs *= len(values)
    return runs


def _offer(session: Session, sweeps: MySweeps, grid: Grid) -> None:
    cells, workers = grid.cells(), os.cpu_count() or 1
    left = [cell for cell in cells if cell.run not in sweeps.kept]
    have = f", {len(cells) - len(left):,} of them done before" if len(left) < len(cells) else ""
    takes = f", {duration(_seconds(session, left, workers))}" if left else ""
    st.markdown(f"**{len(cells):,} runs**{have}{takes}")
    usable = bool(cells) and not sweeps.under_way
    st.button(
        "Start", type="primary" if usable else "secondary", width="stretch", disabled=not usable, key="sweep-start",
        on_click=_start, args=(session, sweeps, grid),
        help="One sweep at a time: cancel the one that is under way first." if sweeps.under_way else None,
    )  # fmt: skip
    for reason, count in grid.left_out().items():
        st.caption(escape_markdown(f"{count:,} more cannot be. {reason}"))


def _seconds(session: Session, cells: list[Cell], workers: int) -> float:
    """An estimate, made anew for other configurations only: it trains for a moment."""
    key = (len(cells), cells[0].key, cells[-1].key) if cells else ()
    return session.remembered("sweep_seconds", key, lambda: estimated_seconds(cells, workers))


def _start(session: Session, sweeps: MySweeps, grid: Grid) -> None:
    try:
        sweeps.start(grid)
    except InvalidInput as error:
        session.notices.append(str(error))
