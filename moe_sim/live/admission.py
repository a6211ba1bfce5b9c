"""Who may have runs computed: so many at once, everybody else in line."""

from __future__ import annotations

import time

from moe_sim.live.background_run import BackgroundRun

HOLD = 30.0
"""Seconds that a place is kept for whoever pauses, while others wait."""


class Admission:
    """Hands out places. One thread at a time."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._holders: dict[BackgroundRun, tuple[frozenset[int], float]] = {}
        """What each is having computed, and when it last wanted a step."""
        self._line: list[BackgroundRun] = []

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    @property
    def taken(self) -> int:
        """Different runs that have places; those who follow the same one share it."""
        return len(self._computed_runs())

    def admit(self, run: BackgroundRun) -> bool:
        """Whether `run`, which wants a step, may have it now; else it stands in line, and has a `place`."""
        computed_runs, held = run.computed_runs, self._holders.pop(run, None)
        others = self._computed_runs()
        may = held is not None and held[0] == computed_runs
        if not may and (run in self._line[:1] or not self._line or computed_runs <= others):
            may = not others or len(others | computed_runs) <= self.places
        if may:
            self._holders[run] = (computed_runs, time.monotonic())
            self._leave_line(run)
        elif run not in self._line:
            self._line.append(run)
            run.place = len(self._line)
        return may

    def sweep(self) -> list[BackgroundRun]:
        """Take places back from those who left, ended, or paused for long.

        Returns:
            Who may come in now, in order.
        """
        long_ago = time.monotonic() - HOLD
        for run, (_, wanted_at) in list(self._holders.items()):
            if not run.wants_step and (not run.watched or run.state != "paused" or wanted_at < long_ago):
                del self._holders[run]
        for run in list(self._line):
            if not run.wants_step or run.forgotten:
                self._leave_line(run)
        computed_runs, free = self._computed_runs(), []
        for run in self._line:
            if computed_runs and len(computed_runs | run.computed_runs) > self.places:
                break
            computed_runs |= run.computed_runs
            free.append(run)
        return free

    def _computed_runs(self) -> frozenset[int]:
        return frozenset().union(*(computed_runs for computed_runs, _ in self._holders.values()))

    def _leave_line(self, run: BackgroundRun) -> None:
        run.place = 0
        if run in self._line:
            self._line.remove(run)
        for place, one in enumerate(self._line, 1):
            one.place = place
