"""How far the visitor's sweep is, with the way to cancel it, and what went wrong."""

from __future__ import annotations

import streamlit as st

from moe_sim.sweep.grid import Grid
from moe_sim.sweep.measures import in_words
from moe_sim.sweep.queue import Booking, shared_desk
from moe_sim.sweep.wording import duration
from moe_sim.sweep.worker import DONE, STOPPED, Row
from pages.sweeps.my_sweeps import Holding
from pages.text.markdown import literal

REFRESH = 1.0
"""Seconds between two looks while it is under way."""
MOST_LISTED = 20


def draw(holding: Holding) -> None:
    """Show the sweep's progress, kept up to date until it is over."""
    st.fragment(_progress, run_every=REFRESH if holding.under_way else None)(holding)


def _progress(holding: Holding) -> None:
    booking, grid = holding.booking, holding.grid
    if booking is None or grid is None:
        return
    under_way = not booking.over
    booking.look()
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(booking.done / max(1, booking.total), text=_state_in_words(booking))
    if under_way:
        button.button("Cancel", on_click=booking.cancel, width="stretch", key="sweep-cancel")
    else:
        holding.keep()
    _failures(booking, grid)
    if not under_way and st.session_state.get("sweep_over") is not booking:
        st.session_state["sweep_over"] = booking
        st.rerun()  # the whole page: nothing needs to be kept up to date any more


def _state_in_words(booking: Booking) -> str:
    count = f"{booking.done:,} of {booking.total:,} runs"
    if booking.state == "waiting":
        ahead = shared_desk().ahead_of(booking)
        return f"Waiting: {ahead} other sweep{'s' * (ahead != 1)} before yours."
    if booking.state == "running":
        left = booking.seconds_left
        return f"{count}, {duration(left)} left" if left is not None else f"{count}, starting the workers …"
    if booking.state == "broken":
        return f"The sweep could not run. {booking.problem}"
    if booking.state == "cancelled":
        return f"Cancelled at {count}. Start the same sweep again to run only what is missing."
    return f"Finished, {count}."


def _failures(booking: Booking, grid: Grid) -> None:
    """The runs that have no result, each with its configuration."""
    bad = [row for row in booking.rows if row["status"] not in (DONE, STOPPED)]
    if not bad:
        return
    with st.expander(f"{len(bad):,} runs without a result", icon=":material/warning:"):
        for row in bad[:MOST_LISTED]:
            st.markdown("- " + literal(f"{_named(row, grid)}: {row['status']}. {row['error'] or ''}"))
        if len(bad) > MOST_LISTED:
            st.caption(f"and {len(bad) - MOST_LISTED:,} more, in the table.")


def _named(row: Row, grid: Grid) -> str:
    return f"{in_words({name: row[name] for name in grid.axes})}, seed {row['seed']}"
