"""A queue of visitors' sweeps: one runs at a time, in a thread of this process; the rest wait.

A sweep that nobody looks at is cancelled after a timeout, like a run that nobody watches.
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

TIMEOUT = 90.0
"""Default timeout in seconds for a sweep that nobody looks at. A browser tab in the background looks once a minute."""
CHECK_INTERVAL = 0.5
"""Seconds between checks for sweeps that timed out or were cancelled."""
LONGEST_QUEUE = 20


@dataclass(frozen=True)
class Limits:
    """The size limits of a visitor's sweep."""

    runs: int = 1_000
    steps: int = 600_000
    """Steps of all runs together."""

    def check(self, *, runs: int, steps: int) -> None:
        """Checks the size of a sweep.

        Raises:
            InvalidInput: if it is too large.
        """
        if runs > self.runs:
            raise InvalidInput(f"{runs:,} runs are more than the {self.runs:,} that a sweep on this page may have.")
        if steps > self.steps:
            raise InvalidInput(f"{steps:,} steps in all are more than the {self.steps:,} that a sweep here may have.")


class QueuedSweep:
    """One visitor's sweep. Only the holder of this object can cancel it, apart from the timeout."""

    def __init__(self, cells: Sequence[Cell], known: Mapping[str, Row]) -> None:
        self.state: State = "waiting"
        self.problem = ""
        """Why it broke, as a sentence."""
        self.total = len(cells)
        rows = {cell: known.get(cell.run) for cell in cells}
        self._known = [row for row in rows.values() if row is not None]
        self._missing = [cell for cell, row in rows.items() if row is None]
        self._sweep: Sweep | None = None
        self._cancelled = threading.Event()
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Restarts the timeout: someone still wants the sweep."""
        self._looked_at = time.monotonic()

    def cancel(self) -> None:
        """Stops the workers, or leaves the queue. Finished rows stay."""
        self._cancelled.set()
        if self._sweep is not None:
            self._sweep.cancel()

    @property
    def over(self) -> bool:
        """Whether it has ended, for whatever reason."""
        return self.state not in ("waiting", "running")

    @property
    def rows(self) -> list[Row]:
        """The rows so far: first the known ones, then new ones in order of arrival."""
        return self._known + (self._sweep.rows if self._sweep is not None else [])

    @property
    def done(self) -> int:
        """Number of rows so far, of `total`."""
        return len(self._known) + (self._sweep.done if self._sweep is not None else 0)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds left; None if there is no estimate yet."""
        return self._sweep.seconds_left if self._sweep is not None else None

    def work(self, start: Callable[[Sequence[Cell]], Sweep]) -> None:
        """Computes the missing runs. Called by the queue."""
        self.state = "running"
        try:
            self._sweep = start(self._missing)
            if not self._cancelled.is_set():
                self._sweep.run()
            self.state = "finished" if self.done == self.total else "cancelled"
        except Exception as error:
            logging.getLogger(__name__).exception("A visitor's sweep failed")
            self.problem, self.state = str(error) or type(error).__name__, "broken"

    def cancel_if_abandoned(self, timeout: float) -> None:
        """Cancels the sweep if nobody has looked at it for `timeout` seconds. Called by the queue."""
        if time.monotonic() - self._looked_at > timeout:
            self.cancel()

    @property
    def abandoned(self) -> bool:
        """Whether it was cancelled, by its holder or the queue."""
        return self._cancelled.is_set()


def _start(cells: Sequence[Cell]) -> Sweep:
    return Sweep(cells, default_engine(None))


class SweepQueue:
    """Runs sweeps one at a time, in order of arrival. All methods may be called from any thread.

    Args:
        start: creates the sweep of some cells.
        limits: the size limits of a sweep.
        timeout: seconds for a sweep that nobody looks at.
    """

    def __init__(
        self, start: Callable[[Sequence[Cell]], Sweep] = _start, limits: Limits | None = None,
        timeout: float = TIMEOUT,
    ) -> None:  # fmt: skip
        self.limits = limits or Limits()
        self._start, self._timeout = start, timeout
        self._queue: list[QueuedSweep] = []
        """The running sweep, then the waiting ones."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def book(self, cells: Sequence[Cell], known: Mapping[str, Row] | None = None) -> QueuedSweep:
        """Adds a sweep to the queue. It starts at once if the queue is empty.

        Args:
            cells: the runs.
            known: existing rows by run name. Of these, only failed and stopped runs are repeated.

        Raises:
            InvalidInput: if the sweep is too large or the queue is full.
        """
        known = {run: row for run, row in (known or {}).items() if row["status"] in (DONE, DIVERGED)}
        sweep = QueuedSweep(cells, known)
        self.limits.check(runs=len(cells), steps=sum(cell.steps for cell in cells))
        with self._changed:
            if self._closed or len(self._queue) >= LONGEST_QUEUE:
                raise InvalidInput("Too many sweeps are waiting in the queue. Try again later.")
            self._queue.append(sweep)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="sweeps", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return sweep

    def ahead_of(self, sweep: QueuedSweep) -> int:
        """Number of sweeps ahead of it in the queue."""
        with self._changed:
            return self._queue.index(sweep) if sweep in self._queue else 0

    @property
    def waiting(self) -> int:
        """Number of sweeps that wait for the running one."""
        return max(0, len(self._queue) - 1)

    def stop(self) -> None:
        """Cancels all sweeps and waits until they have ended."""
        with self._changed:
            self._closed = True
            for sweep in self._queue:
                sweep.cancel()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._queue)
                if not self._queue:
                    return
                sweep = self._queue[0]
            self._run(sweep)
            with self._changed:
                self._queue.remove(sweep)

    def _run(self, sweep: QueuedSweep) -> None:
        """Runs a sweep in a thread, and meanwhile drops sweeps that timed out or were cancelled."""
        work = threading.Thread(target=sweep.work, args=(self._start,), name="sweep", daemon=True)
        work.start()
        while work.is_alive():
            with self._changed:
                for queued in self._queue:
                    queued.cancel_if_abandoned(self._timeout)
                for waiting in [queued for queued in self._queue if queued.abandoned and queued is not sweep]:
                    waiting.state = "cancelled"
                    self._queue.remove(waiting)
            work.join(CHECK_INTERVAL)
