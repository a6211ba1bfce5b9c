"""The progress of the visitor's sweep, a Cancel button, and the runs that failed."""

from __future__ import annotations

import streamlit as st

from moe_sim.sweep.grid import Grid
from moe_sim.sweep.measures import in_words
from moe_sim.sweep.queue import QueuedSweep, SweepQueue
from moe_sim.sweep.wording import duration
from moe_sim.sweep.worker import DONE, STOPPED, Row
from pages.sweeps.my_sweeps import MySweeps
from pages.text.markdown import escape_markdown

REFRESH = 1.0
"""Seconds between updates while a sweep is queued or running."""
MOST_LISTED = 20


def draw(sweeps: MySweeps) -> None:
    """Shows the sweep's progress, updated until it ends."""
    st.fragment(_progress, run_every=REFRESH if sweeps.under_way else None)(sweeps)


def _progress(sweeps: MySweeps) -> None:
    sweep, grid = sweeps.sweep, sweeps.grid
    if sweep is None or grid is None:
        return
    under_way = not sweep.over
    sweep.look()
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(sweep.done / max(1, sweep.total), text=_state_in_words(sweep, sweeps.queue))
    if under_way:
        button.button("Cancel", on_click=sweep.cancel, width="stretch", key="sweep-cancel")
    else:
        sweeps.keep()
    _failures(sweep, grid)
    if not under_way and st.session_state.get("sweep_over") is not sweep:
        st.session_state["sweep_over"] = sweep
        st.rerun()  # the whole page, which now stops updating


def _state_in_words(sweep: QueuedSweep, queue: SweepQueue) -> str:
    count = f"{sweep.done:,} of {sweep.total:,} runs"
    if sweep.state == "waiting":
        ahead = queue.ahead_of(sweep)
        wait = f", {duration(queue.seconds_before(sweep))}" if ahead else ""
        so_far = f" {count} so far." if sweep.done else ""
        return f"Queued: {ahead} sweep{'s' * (ahead != 1)} ahead of yours{wait}.{so_far}"
    if sweep.state == "running":
        left = sweep.seconds_left
        return f"{count}, {duration(left)} left" if left is not None else f"{count}, starting the workers …"
    if sweep.state == "broken":
        return f"The sweep could not run. {sweep.problem}"
    if sweep.state == "cancelled":
        return f"Cancelled at {count}. Start the same sweep again to run only what is missing."
    return f"Finished, {count}."


def _failures(sweep: QueuedSweep, grid: Grid) -> None:
    """Lists the runs without a result, with their configurations."""
    failed = [row for row in sweep.rows if row["status"] not in (DONE, STOPPED)]
    if not failed:
        return
    with st.expander(f"{len(failed):,} run{'s' * (len(failed) != 1)} without a result", icon=":material/warning:"):
        for row in failed[:MOST_LISTED]:
            st.markdown("- " + escape_markdown(f"{_run_in_words(row, grid)}: {row['status']}. {row['error'] or ''}"))
        if len(failed) > MOST_LISTED:
            st.caption(f"And {len(failed) - MOST_LISTED:,} more, in the table.")


def _run_in_words(row: Row, grid: Grid) -> str:
    return f"{in_words({name: row[name] for name in grid.axes})}, seed {row['seed']}"
