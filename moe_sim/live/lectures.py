"""Lectures: runs that others may watch, at an address that stays the same when the lecturer starts another run."""

from __future__ import annotations

import secrets
import threading

from moe_sim.live.live_run import LiveRun

MOST_LECTURES = 1_000


class Lectures:
    """The run that each lecture shows now. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._runs: dict[str, LiveRun] = {}
        self._lock = threading.Lock()

    def begin(self, run: LiveRun) -> str:
        """Opens a lecture that shows `run` and returns its unguessable id. If there are too many, the oldest ends."""
        lecture_id = secrets.token_urlsafe(16)
        with self._lock:
            if len(self._runs) >= MOST_LECTURES:
                del self._runs[next(iter(self._runs))]
            self._runs[lecture_id] = run
        return lecture_id

    def show(self, lecture_id: str, run: LiveRun) -> None:
        """Makes a lecture show another run. Has no effect on a lecture that has ended."""
        with self._lock:
            if lecture_id in self._runs:
                self._runs[lecture_id] = run

    def going(self, most: int) -> tuple[str, ...]:
        """Returns the ids of the newest lectures that are being watched, at most `most`."""
        with self._lock:
            self._runs = {lecture_id: run for lecture_id, run in self._runs.items() if not run.forgotten}
            watched = [lecture_id for lecture_id, run in self._runs.items() if run.watched]
        return tuple(watched[::-1][:most])

    def get(self, lecture_id: str) -> LiveRun | None:
        """Returns the run that a lecture shows, or None if the lecture has ended or does not exist."""
        return self._runs.get(lecture_id)
