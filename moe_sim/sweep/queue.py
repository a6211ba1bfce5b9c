"""A queue of visitors' sweeps: one runs at a time, in a thread of this process; the rest wait.

While others wait, they take turns. A sweep that nobody looks at is cancelled after a timeout, like a run that nobody
watches.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from moe_sim.config.errors import InvalidInput
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engines import default_engine
from moe_sim.sweep.estimate import Estimate
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.limits import Limits
from moe_sim.sweep.worker import DIVERGED, DONE, Row

State = Literal["waiting", "running", "finished", "cancelled", "broken"]

TIMEOUT = 90.0
"""Default timeout in seconds for a sweep that nobody looks at. A browser tab in the background looks once a minute."""
CHECK_INTERVAL = 0.5
"""Seconds between checks for sweeps that timed out or were cancelled."""
LONGEST_QUEUE = 100
TURN = 60.0
"""Seconds after which a sweep makes room for the next one, once its runs in flight have ended."""
DRAIN = 240.0
"""Seconds after which runs in flight are stopped; they are repeated in the sweep's next turn."""


class QueuedSweep:
    """One visitor's sweep. Only the holder of this object can cancel it, apart from the timeout."""

    def __init__(self, cells: Sequence[Cell], known: Mapping[str, Row], seconds: float = TURN) -> None:
        self.state: State = "waiting"
        self.problem = ""
        """Why it broke, as a sentence."""
        self.total, self._seconds = len(cells), seconds
        rows = {cell: known.get(cell.run) for cell in cells}
        self._known = [row for row in rows.values() if row is not None]
        self._missing = [cell for cell, row in rows.items() if row is None]
        self._turns: tuple[Sweep, ...] = ()
        """One for each turn; the last is the current one while it is running."""
        self._cancelled = threading.Event()
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Restarts the timeout: someone still wants the sweep."""
        self._looked_at = time.monotonic()

    def cancel(self) -> None:
        """Stops the workers, or leaves the queue. Finished rows stay."""
        self._cancelled.set()
        self.stop_turn()

    @property
    def over(self) -> bool:
        """Whether it has ended, for whatever reason."""
        return self.state not in ("waiting", "running")

    @property
    def rows(self) -> list[Row]:
        """The rows so far: first the known ones, then new ones in order of arrival."""
        return self._known + [row for turn in self._turns for row in turn.rows]

    @property
    def done(self) -> int:
        """Number of rows so far, of `total`."""
        return len(self._known) + sum(turn.done for turn in self._turns)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds of computing left, from the pace of its current turn; None before its first row."""
        return self._turns[-1].seconds_left if self._turns and self.state == "running" else None

    @property
    def seconds_of_next_turn(self) -> float:
        """Estimated seconds until others have their turn."""
        left = self.seconds_left
        if left is None:
            left = self._seconds * (self.total - self.done) / max(1, self.total - len(self._known))
        return min(TURN, left)

    def work(self, start: Callable[[Sequence[Cell]], Sweep]) -> None:
        """Computes missing runs until all are done or the turn ends. Called by the queue."""
        self.state = "running"
        try:
            finished = {row["run"] for row in self.rows}
            sweep = start([cell for cell in self._missing if cell.run not in finished])
            self._turns += (sweep,)
            if not self._cancelled.is_set():
                sweep.run()
            unfinished: State = "cancelled" if self._cancelled.is_set() else "waiting"
            self.state = "finished" if self.done == self.total else unfinished
        except Exception as error:
            logging.getLogger(__name__).exception("A visitor's sweep failed")
            self.problem, self.state = str(error) or type(error).__name__, "broken"

    def end_turn(self) -> None:
        """Ends the current turn once the runs in flight have ended. Called by the queue."""
        if self._turns:
            self._turns[-1].drain()

    def stop_turn(self) -> None:
        """Ends the current turn now; runs in flight are lost."""
        if self._turns:
            self._turns[-1].cancel()

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
    """Runs sweeps one at a time, in order of arrival; while others wait, each for a turn. All methods may be called
    from any thread.

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

    def book(
        self, cells: Sequence[Cell], known: Mapping[str, Row] | None = None, estimate: Estimate | None = None
    ) -> QueuedSweep:  # fmt: skip
        """Adds a sweep to the queue. It starts at once if the queue is empty.

        Args:
            cells: the runs.
            known: existing rows by run name. Of these, only failed and stopped runs are repeated.
            estimate: how long the missing runs take.

        Raises:
            InvalidInput: if the sweep is too large or too long, or the queue is full.
        """
        known = {run: row for run, row in (known or {}).items() if row["status"] in (DONE, DIVERGED)}
        sweep = QueuedSweep(cells, known, estimate.seconds if estimate is not None else TURN)
        self.limits.check(runs=len(cells), steps=sum(cell.steps for cell in cells))
        if estimate is not None:
            self.limits.check_time(estimate)
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

    def seconds_before(self, sweep: QueuedSweep) -> float:
        """Estimated seconds until it starts: one turn of each sweep ahead of it."""
        with self._changed:
            ahead = self._queue[: self._queue.index(sweep)] if sweep in self._queue else []
        return sum(other.seconds_of_next_turn for other in ahead)

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
                if not sweep.over:
                    self._queue.append(sweep)

    def _run(self, sweep: QueuedSweep) -> None:
        """Runs a sweep in a thread, and meanwhile drops sweeps that timed out or were cancelled."""
        work = threading.Thread(target=sweep.work, args=(self._start,), name="sweep", daemon=True)
        work.start()
        begun = time.monotonic()
        while work.is_alive():
            with self._changed:
                for queued in self._queue:
                    queued.cancel_if_abandoned(self._timeout)
                for waiting in [queued for queued in self._queue if queued.abandoned and queued is not sweep]:
                    waiting.state = "cancelled"
                    self._queue.remove(waiting)
                others_wait = len(self._queue) > 1
            taken = time.monotonic() - begun
            if others_wait and taken > TURN:
                sweep.end_turn()
            if others_wait and taken > TURN + DRAIN:
                sweep.stop_turn()
            work.join(CHECK_INTERVAL)
