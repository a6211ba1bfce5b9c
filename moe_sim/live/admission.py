"""Limits how many runs train at once; the rest wait in a queue, and all take turns."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from moe_sim.live.background_run import BackgroundRun

HOLD = 30.0
"""Seconds that a paused run keeps its slot while others wait."""
TIME_LIMIT = 60.0
"""Seconds that a run keeps its slot while others wait, times the number of sessions that have it on their page: a class
that follows a lecture counts as if each student trained."""


class Slot(NamedTuple):
    """What a run holds while it trains."""

    computed_runs: frozenset[int]
    """The computed runs that it needs; everyone who follows the same run shares one slot."""
    since: float
    """When it was granted."""
    wanted_at: float
    """When the run last wanted a step."""


class Admission:
    """Grants training slots to runs. Not thread-safe: the scheduler calls it under its lock.

    Args:
        slots: how many different runs may train at once.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._holders: dict[BackgroundRun, Slot] = {}
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
        now, computed_runs, held = time.monotonic(), run.computed_runs, self._holders.pop(run, None)
        others = self._computed_runs()
        admitted = held is not None and held.computed_runs == computed_runs
        since = held.since if held is not None and admitted else now
        if not admitted and (run in self._queue[:1] or not self._queue or computed_runs <= others):
            admitted = not others or len(others | computed_runs) <= self.slots
        if admitted:
            self._holders[run] = Slot(computed_runs, since, now)
            self._dequeue(run)
        elif run not in self._queue:
            self._queue.append(run)
            run.queue_position = len(self._queue)
        return admitted

    def sweep(self) -> list[BackgroundRun]:
        """Frees the slots of runs that ended, lost their viewers or sessions, or paused for long. Those that
        others wait for are taken from runs beyond `TIME_LIMIT`, which go to the end of the queue.

        Returns:
            The queued runs that may start now, in order.
        """
        expiry = time.monotonic() - HOLD
        for run, slot in list(self._holders.items()):
            if not run.wants_step and (not run.watched or run.state != "paused" or slot.wanted_at < expiry):
                del self._holders[run]
        for run in list(self._queue):
            if not run.wants_step or run.forgotten:
                self._dequeue(run)
        admitted: frozenset[int] = frozenset()
        admissible: list[BackgroundRun] = []
        expired = self._expired()
        for run in list(self._queue):
            while self._holders and len(self._computed_runs() | admitted | run.computed_runs) > self.slots:
                if (late := next(expired, None)) is None:
                    return admissible
                self._requeue(late)
            if (taken := self._computed_runs() | admitted) and len(taken | run.computed_runs) > self.slots:
                return admissible
            admitted |= run.computed_runs
            admissible.append(run)
        return admissible

    def _computed_runs(self) -> frozenset[int]:
        return frozenset().union(*(slot.computed_runs for slot in self._holders.values()))

    def _expired(self) -> Iterator[BackgroundRun]:
        """Runs beyond the time limit, those that have had their slots longest first."""
        if not self._queue:
            return
        now, sessions, since = time.monotonic(), Counter[int](), dict[int, float]()
        holders = sorted(self._holders.items(), key=lambda item: item[1].since)
        for run, slot in holders:
            for number in slot.computed_runs:
                sessions[number] += max(1, run.sessions)
                since.setdefault(number, slot.since)
        for run, slot in holders:
            limit = TIME_LIMIT * max(sessions[number] for number in slot.computed_runs)
            if run in self._holders and now - min(since[number] for number in slot.computed_runs) > limit:
                yield run

    def _requeue(self, run: BackgroundRun) -> None:
        """Moves a run, and whoever shares its slot, to the end of the queue."""
        computed_runs = self._holders[run].computed_runs
        for other, slot in list(self._holders.items()):
            if slot.computed_runs & computed_runs:
                del self._holders[other]
                self._queue.append(other)
                other.queue_position = len(self._queue)

    def _dequeue(self, run: BackgroundRun) -> None:
        run.queue_position = 0
        if run in self._queue:
            self._queue.remove(run)
        for position, queued in enumerate(self._queue, 1):
            queued.queue_position = position
