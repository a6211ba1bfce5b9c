"""Sweeps for visitors: one at a time in this process, in a thread of its own; who comes while one runs waits in line.

A sweep that nobody looks at for a while is cancelled, like a run that nobody watches.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from moe_sim.config.errors import InvalidInput
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engines import default_engine
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.worker import DIVERGED, DONE, Row

State = Literal["waiting", "running", "finished", "cancelled", "broken"]

PATIENCE = 90.0
"""Seconds without a look after which a sweep is cancelled. A browser tab in the background looks once a minute."""
LOOK_AROUND = 0.5
"""Seconds between two looks for such sweeps."""
LONGEST_LINE = 20


@dataclass(frozen=True)
class Limits:
    """How large a visitor's sweep may be."""

    runs: int = 1_000
    steps: int = 600_000
    """Of all runs together."""

    def check(self, *, runs: int, steps: int) -> None:
        """Refuse what is too large.

        Raises:
            InvalidInput: if it is.
        """
        if runs > self.runs:
            raise InvalidInput(f"{runs:,} runs are more than the {self.runs:,} that a sweep on this page may have.")
        if steps > self.steps:
            raise InvalidInput(f"{steps:,} steps in all are more than the {self.steps:,} that a sweep here may have.")


class QueuedSweep:
    """One visitor's sweep. There is no other way to it: only who holds it can cancel it."""

    def __init__(self, cells: Sequence[Cell], known: Mapping[str, Row]) -> None:
        self.state: State = "waiting"
        self.problem = ""
        """Why it is broken, a sentence."""
        self.total = len(cells)
        rows = {cell: known.get(cell.run) for cell in cells}
        self._known = [row for row in rows.values() if row is not None]
        self._missing = [cell for cell, row in rows.items() if row is None]
        self._sweep: Sweep | None = None
        self._unwanted = threading.Event()
        self._looked = time.monotonic()

    def look(self) -> None:
        """Say that somebody still wants it."""
        self._looked = time.monotonic()

    def cancel(self) -> None:
        """Stop the workers, or leave the line. What is done stays."""
        self._unwanted.set()
        if self._sweep is not None:
            self._sweep.cancel()

    @property
    def over(self) -> bool:
        """Whether nothing will come any more."""
        return self.state not in ("waiting", "running")

    @property
    def rows(self) -> list[Row]:
        """The rows so far: those that were known, then the others as they came."""
        return self._known + (self._sweep.rows if self._sweep is not None else [])

    @property
    def done(self) -> int:
        """How many of `total` runs are there."""
        return len(self._known) + (self._sweep.done if self._sweep is not None else 0)

    @property
    def seconds_left(self) -> float | None:
        """None while nobody can tell."""
        return self._sweep.seconds_left if self._sweep is not None else None

    def work(self, start: Callable[[Sequence[Cell]], Sweep]) -> None:
        """Do what is missing. Called by the queue."""
        self.state = "running"
        try:
            self._sweep = start(self._missing)
            if not self._unwanted.is_set():
                self._sweep.run()
            self.state = "finished" if self.done == self.total else "cancelled"
        except Exception as error:
            logging.getLogger(__name__).exception("A visitor's sweep broke")
            self.problem, self.state = str(error) or type(error).__name__, "broken"

    def give_up_if(self, patience: float) -> None:
        """Cancel it if nobody has looked for so many seconds. Called by the queue."""
        if time.monotonic() - self._looked > patience:
            self.cancel()

    @property
    def unwanted(self) -> bool:
        """Whether it was cancelled, by whomever."""
        return self._unwanted.is_set()


def _start(cells: Sequence[Cell]) -> Sweep:
    return Sweep(cells, default_engine(None))


class SweepQueue:
    """Takes bookings and does them one after the other. All methods may be called from any thread.

    Args:
        start: makes the sweep of some cells.
        limits: how large it may be.
        patience: seconds without a look after which a sweep is cancelled.
    """

    def __init__(
        self, start: Callable[[Sequence[Cell]], Sweep] = _start, limits: Limits | None = None,
        patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        self.limits = limits or Limits()
        self._start, self._patience = start, patience
        self._line: list[QueuedSweep] = []
        """The one at work first."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def book(self, cells: Sequence[Cell], known: Mapping[str, Row] | None = None) -> QueuedSweep:
        """Stand in line with a sweep; it starts at once if nobody else is there.

        Args:
            cells: what to run.
            known: rows by the names of their runs, which are not done again unless they failed or were stopped.

        Raises:
            InvalidInput: if it is too large, or the line too long.
        """
        known = {run: row for run, row in (known or {}).items() if row["status"] in (DONE, DIVERGED)}
        sweep = QueuedSweep(cells, known)
        self.limits.check(runs=len(cells), steps=sum(cell.steps for cell in cells))
        with self._changed:
            if self._closed or len(self._line) >= LONGEST_LINE:
                raise InvalidInput("Too many sweeps are waiting here; try again later.")
            self._line.append(sweep)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="sweeps", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return sweep

    def ahead_of(self, sweep: QueuedSweep) -> int:
        """How many sweeps come before it."""
        with self._changed:
            return self._line.index(sweep) if sweep in self._line else 0

    @property
    def waiting(self) -> int:
        """How many sweeps wait for the one at work."""
        return max(0, len(self._line) - 1)

    def stop(self) -> None:
        """Cancel everything and wait until it has ended."""
        with self._changed:
            self._closed = True
            for sweep in self._line:
                sweep.cancel()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._line)
                if not self._line:
                    return
                sweep = self._line[0]
            self._do(sweep)
            with self._changed:
                self._line.remove(sweep)

    def _do(self, sweep: QueuedSweep) -> None:
        """Have one thread work, and meanwhile look after everybody in line."""
        work = threading.Thread(target=sweep.work, args=(self._start,), name="sweep", daemon=True)
        work.start()
        while work.is_alive():
            with self._changed:
                for one in self._line:
                    one.give_up_if(self._patience)
                for one in [one for one in self._line if one.unwanted and one is not sweep]:
                    one.state = "cancelled"
                    self._line.remove(one)
            work.join(LOOK_AROUND)
