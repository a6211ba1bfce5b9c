"""Limits how many runs train at once; the rest wait in a queue."""

from __future__ import annotations

import time

from moe_sim.live.background_run import BackgroundRun

HOLD = 30.0
"""Seconds that a paused run keeps its slot while others wait."""


class Admission:
    """Grants training slots to runs. Not thread-safe: the scheduler calls it under its lock.

    Args:
        slots: how many different runs may train at once.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._holders: dict[BackgroundRun, tuple[frozenset[int], float]] = {}
        """The computed runs of each run that has a slot, and when it last wanted a step."""
        self._queue: list[BackgroundRun] = []

    @property
    def waiting(self) -> int:
        """Length of the queue."""
        return len(self._queue)

    @property
    def taken(self) -> int:
        """Number of slots taken; everyone who follows the same run shares one."""
        return len(self._computed_runs())

    def admit(self, run: BackgroundRun) -> bool:
        """Returns whether `run`, which wants a step, may. If not, queues it and sets its `queue_position`."""
        computed_runs, held = run.computed_runs, self._holders.pop(run, None)
        others = self._computed_runs()
        admitted = held is not None and held[0] == computed_runs
        if not admitted and (run in self._queue[:1] or not self._queue or computed_runs <= others):
            admitted = not others or len(others | computed_runs) <= self.slots
        if admitted:
            self._holders[run] = (computed_runs, time.monotonic())
            self._dequeue(run)
        elif run not in self._queue:
            self._queue.append(run)
            run.queue_position = len(self._queue)
        return admitted

    def sweep(self) -> list[BackgroundRun]:
        """Frees the slots of runs that ended, lost their viewers or paused for long.

        Returns:
            The queued runs that may start now, in order.
        """
        expiry = time.monotonic() - HOLD
        for run, (_, wanted_at) in list(self._holders.items()):
            if not run.wants_step and (not run.watched or run.state != "paused" or wanted_at < expiry):
                del self._holders[run]
        for run in list(self._queue):
            if not run.wants_step or run.forgotten:
                self._dequeue(run)
        computed_runs, admissible = self._computed_runs(), []
        for run in self._queue:
            if computed_runs and len(computed_runs | run.computed_runs) > self.slots:
                break
            computed_runs |= run.computed_runs
            admissible.append(run)
        return admissible

    def _computed_runs(self) -> frozenset[int]:
        return frozenset().union(*(computed_runs for computed_runs, _ in self._holders.values()))

    def _dequeue(self, run: BackgroundRun) -> None:
        run.queue_position = 0
        if run in self._queue:
            self._queue.remove(run)
        for position, queued in enumerate(self._queue, 1):
            queued.queue_position = position
