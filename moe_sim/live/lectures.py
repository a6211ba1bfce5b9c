"""Lectures: a run that others may watch, and that stays the same address when its owner starts another run."""

from __future__ import annotations

import secrets
import threading

from moe_sim.live.live_run import LiveRun

MOST_LECTURES = 1_000


class Lectures:
    """Which run each lecture shows now. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._runs: dict[str, LiveRun] = {}
        self._lock = threading.Lock()

    def begin(self, run: LiveRun) -> str:
        """Open a lecture that shows `run`; returns its unguessable id. The oldest one ends when there are too many."""
        lecture_id = secrets.token_urlsafe(16)
        with self._lock:
            if len(self._runs) >= MOST_LECTURES:
                del self._runs[next(iter(self._runs))]
            self._runs[lecture_id] = run
        return lecture_id

    def show(self, lecture_id: str, run: LiveRun) -> None:
        """From now on the lecture shows another run. Ignored for a lecture that has ended."""
        with self._lock:
            if lecture_id in self._runs:
                self._runs[lecture_id] = run

    def going(self, most: int) -> tuple[str, ...]:
        """The newest lectures that somebody watches now."""
        with self._lock:
            self._runs = {lecture_id: run for lecture_id, run in self._runs.items() if not run.forgotten}
            watched = [lecture_id for lecture_id, run in self._runs.items() if run.watched]
        return tuple(watched[::-1][:most])

    def get(self, lecture_id: str) -> LiveRun | None:
        """The run that the lecture shows now; None if there is no such lecture (any more)."""
        return self._runs.get(lecture_id)
