"""What a visitor has on the Sweep page: the sweep they started, rows of earlier ones, a file they opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import streamlit as st

from moe_sim.sweep.gallery import GRID, gallery
from moe_sim.sweep.grid import Grid
from moe_sim.sweep.measures import axes_of
from moe_sim.sweep.queue import QueuedSweep, SweepQueue
from moe_sim.sweep.table import rows_to_frame
from moe_sim.sweep.wording import command_of
from moe_sim.sweep.worker import Row
from pages.sweeps.upload import opened_table

if TYPE_CHECKING:
    import pandas as pd

GALLERY, MINE = "Gallery", "Your sweep"
MOST_KEPT = 5_000
"""Rows of earlier sweeps that a visitor's session keeps."""


@dataclass(frozen=True)
class Table:
    """A sweep that can be looked at."""

    frame: pd.DataFrame
    axes: Mapping[str, tuple[Any, ...]]
    about: str
    command: str | None = None
    """What makes it again; not known of a file."""


@dataclass
class MySweeps:
    """One visitor's sweeps.

    Args:
        queue: where they are computed.
    """

    queue: SweepQueue
    chosen: str = GALLERY
    sweep: QueuedSweep | None = None
    grid: Grid | None = None
    opened: tuple[str, pd.DataFrame] | None = None
    """A file's name and its rows."""
    kept: dict[str, Row] = field(default_factory=dict)
    """Rows by the names of their runs, the newest last."""

    @property
    def under_way(self) -> bool:
        """Whether a sweep is waiting or running."""
        return self.sweep is not None and not self.sweep.over

    @property
    def choices(self) -> list[str]:
        """What there is to look at."""
        mine = [MINE] if self.sweep is not None else []
        return [GALLERY, *mine, *([self.opened[0]] if self.opened else [])]

    def start(self, grid: Grid) -> None:
        """Do what is missing of a sweep.

        Raises:
            InvalidInput: if it is too large.
        """
        self.keep()
        self.sweep = self.queue.book(grid.cells(), self.kept)
        self.grid, self.chosen = grid, MINE

    def keep(self) -> None:
        """Note the rows of the sweep of now, so that none is computed twice."""
        if self.sweep is not None:
            self.kept |= {row["run"]: row for row in self.sweep.rows}
            for run in list(islice(self.kept, max(0, len(self.kept) - MOST_KEPT))):
                del self.kept[run]

    def open(self, name: str, content: bytes) -> None:
        """Look at a file that the command line made.

        Raises:
            InvalidInput: if it is not one.
        """
        self.opened = name, opened_table(name, content)
        self.chosen = name

    def table(self) -> Table:
        """What is being looked at."""
        if self.chosen == MINE and self.sweep is not None and self.grid is not None:
            return Table(rows_to_frame(self.sweep.rows), self.grid.axes, "", command_of(self.grid))
        if self.opened is not None and self.chosen == self.opened[0]:
            return Table(self.opened[1], axes_of(self.opened[1]), f"{len(self.opened[1]):,} rows of {self.chosen}.")
        frame = _gallery()
        about = f"A sweep made by the project: α × experts × k, {GRID.seeds} seeds, {GRID.steps} steps each."
        return Table(frame, axes_of(frame), about, command_of(GRID, "moe_sim/sweep/gallery.parquet"))


@st.cache_resource(show_spinner=False)
def _gallery() -> pd.DataFrame:
    return gallery()


def my_sweeps(queue: SweepQueue) -> MySweeps:
    """The sweeps of the visitor whose script is running."""
    if "sweeps" not in st.session_state:
        st.session_state["sweeps"] = MySweeps(queue)
    return st.session_state["sweeps"]
