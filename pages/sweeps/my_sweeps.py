"""A visitor's sweeps: the one they started, rows of earlier ones, a file they opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import streamlit as st

from moe_sim.config.errors import InvalidInput
from moe_sim.sweep.estimate import Estimate
from moe_sim.sweep.gallery import GRID, gallery
from moe_sim.sweep.grid import Cell, Grid
from moe_sim.sweep.measures import axes_of
from moe_sim.sweep.queue import QueuedSweep, SweepQueue
from moe_sim.sweep.table import rows_to_frame
from moe_sim.sweep.wording import command_of
from moe_sim.sweep.worker import Row
from pages.sweeps.upload import opened_table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

GALLERY, MINE = "Gallery", "Your sweep"
MOST_KEPT = 5_000
"""The maximum number of rows of earlier sweeps that a session keeps."""
MOST_DRAWN = 50
"""The maximum number of charts that a table keeps."""


@dataclass(frozen=True, eq=False)
class Table:
    """A sweep to display."""

    frame: pd.DataFrame
    axes: Mapping[str, tuple[Any, ...]]
    about: str
    command: str | None = None
    """The command that reproduces it; unknown for a file."""
    drawn: dict[tuple[Any, ...], go.Figure] = field(default_factory=dict)
    """Its charts so far, the oldest first. The gallery's are drawn once for all visitors."""

    def figure(self, key: tuple[Any, ...], draw: Callable[[], go.Figure]) -> go.Figure:
        """Returns a chart, which `draw` makes if there is none under this key: its name and the visitor's choices."""
        if key not in self.drawn:
            self.drawn[key] = draw()
            for oldest in list(islice(self.drawn, max(0, len(self.drawn) - MOST_DRAWN))):
                self.drawn.pop(oldest, None)
        return self.drawn[key]


@dataclass
class MySweeps:
    """One visitor's sweeps.

    Args:
        queue: the queue that runs them.
    """

    queue: SweepQueue
    chosen: str = GALLERY
    sweep: QueuedSweep | None = None
    grid: Grid | None = None
    opened: tuple[str, pd.DataFrame] | None = None
    """A file's name and its rows."""
    kept: dict[str, Row] = field(default_factory=dict)
    """Rows by run, newest last."""

    @property
    def under_way(self) -> bool:
        """Whether a sweep is waiting or running."""
        return self.sweep is not None and not self.sweep.over

    @property
    def choices(self) -> list[str]:
        """The names of the sweeps to choose from."""
        mine = [MINE] if self.sweep is not None else []
        return [GALLERY, *mine, *([self.opened[0]] if self.opened else [])]

    def missing(self, grid: Grid) -> list[Cell]:
        """The runs of a sweep whose rows are not kept."""
        return [cell for cell in grid.cells() if cell.run not in self.kept]

    def start(self, grid: Grid, estimate: Estimate | None = None) -> None:
        """Queues a sweep. Runs whose rows are kept are not computed again.

        Args:
            grid: the sweep.
            estimate: how long its missing runs take.

        Raises:
            InvalidInput: if it is too large or too long, or another one is under way.
        """
        if self.under_way:
            raise InvalidInput("One sweep at a time: cancel the current one first.")
        self.keep()
        self.sweep = self.queue.book(grid.cells(), self.kept, estimate)
        self.grid, self.chosen = grid, MINE

    def keep(self) -> None:
        """Keeps the rows of the current sweep, so that no run is computed twice."""
        if self.sweep is not None:
            self.kept |= {row["run"]: row for row in self.sweep.rows}
            for run in list(islice(self.kept, max(0, len(self.kept) - MOST_KEPT))):
                del self.kept[run]

    def open(self, name: str, content: bytes) -> None:
        """Opens and chooses a file that the command line wrote.

        Raises:
            InvalidInput: if the file is not a sweep or is too large.
        """
        self.opened = name, opened_table(name, content)
        self.chosen = name

    def table(self) -> Table:
        """Returns the chosen sweep."""
        if self.chosen == MINE and self.sweep is not None and self.grid is not None:
            return Table(rows_to_frame(self.sweep.rows), self.grid.axes, "", command_of(self.grid))
        if self.opened is not None and self.chosen == self.opened[0]:
            return Table(self.opened[1], axes_of(self.opened[1]), f"{len(self.opened[1]):,} rows of {self.chosen}.")
        return _gallery()


@st.cache_resource(show_spinner=False)
def _gallery() -> Table:
    frame = gallery()
    about = f"An example sweep: α × experts × k, {GRID.seeds} seeds, {GRID.steps:,} steps each."
    return Table(frame, axes_of(frame), about, command_of(GRID, "moe_sim/sweep/gallery.parquet"))


def my_sweeps(queue: SweepQueue) -> MySweeps:
    """Returns the sweeps of the visitor whose script is running."""
    mine = st.session_state.get("sweeps")
    if mine is None:  # not read back: the state may be emptied at any time, when the visitor leaves
        mine = st.session_state["sweeps"] = MySweeps(queue)
    return mine
