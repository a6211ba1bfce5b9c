"""Lectures: runs that others may watch, at an address that stays the same when the lecturer starts another run."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from moe_sim.config.errors import UserError
from moe_sim.live.live_run import LiveRun

MOST_LECTURES = 100
MOST_BYTES = 200_000_000
"""Limit of the memory of all their runs."""
EXPIRY = 180.0
"""Seconds after which a lecture ends that nobody watches and whose lecturer has left."""


class NoRoom(UserError):
    """All lectures that fit are being watched."""


def always() -> bool:
    """A lecturer who never leaves."""
    return True


@dataclass
class Lecture:
    """What a lecture shows, and whether anyone still needs it."""

    run: LiveRun
    lecturer: Callable[[], bool]
    """Says whether the lecturer's session is connected."""
    needed_at: float
    """When it was last watched, or the lecturer connected."""

    @property
    def watched(self) -> bool:
        """Whether a stream is open, or was a moment ago and the lecturer or a student is still there."""
        run = self.run
        return not run.forgotten and (run.viewers > 0 or (run.watched and (self.lecturer() or run.sessions > 0)))

    @property
    def ends_first(self) -> tuple[bool, float]:
        """Sorts lectures that nobody watches: first those whose lecturer has left, then the longest unwatched."""
        return self.lecturer(), self.run.last_watched


class Lectures:
    """The run that each lecture shows now. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lectures: dict[str, Lecture] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Number of lectures that have not ended."""
        return len(self._lectures)

    def begin(self, run: LiveRun, lecturer: Callable[[], bool] = always) -> str:
        """Opens a lecture that shows `run`. If there are too many, or their runs too large, others end that nobody
        watches.

        Args:
            run: what it shows.
            lecturer: says whether the lecturer's session is connected.

        Returns:
            Its unguessable id.

        Raises:
            NoRoom: if those that are watched leave no room.
        """
        lecture_id = secrets.token_urlsafe(16)
        with self._lock:
            self._expire()
            while not self._fits(run):
                if not self._end_an_unwatched_one():
                    raise NoRoom("There is no room for another lecture: the others are being watched. Try again later.")
            self._lectures[lecture_id] = Lecture(run, lecturer, time.monotonic())
        return lecture_id

    def show(self, lecture_id: str, run: LiveRun) -> None:
        """Makes a lecture show another run. Has no effect on a lecture that has ended."""
        with self._lock:
            if lecture_id in self._lectures:
                self._lectures[lecture_id].run = run

    def going(self, most: int) -> tuple[str, ...]:
        """Returns the ids of the newest lectures that are being watched, at most `most`."""
        with self._lock:
            watched = [lecture_id for lecture_id, lecture in self._lectures.items() if lecture.watched]
        return tuple(watched[::-1][:most])

    def get(self, lecture_id: str) -> LiveRun | None:
        """Returns the run that a lecture shows, or None if the lecture has ended or does not exist."""
        lecture = self._lectures.get(lecture_id)
        return lecture.run if lecture is not None else None

    def expire(self) -> None:
        """Ends the lectures that nobody needs any more. The scheduler calls it from time to time."""
        with self._lock:
            self._expire()
            while self._bytes() > MOST_BYTES and self._end_an_unwatched_one():
                pass

    def _expire(self) -> None:
        now = time.monotonic()
        for lecture_id, lecture in list(self._lectures.items()):
            if lecture.watched or lecture.lecturer():
                lecture.needed_at = now
            if lecture.run.forgotten or now - lecture.needed_at > EXPIRY:
                del self._lectures[lecture_id]

    def _fits(self, run: LiveRun) -> bool:
        room = len(self._lectures) < MOST_LECTURES and self._bytes() + run.nbytes <= MOST_BYTES
        return room or not self._lectures

    def _bytes(self) -> int:
        return sum(lecture.run.nbytes for lecture in self._lectures.values())

    def _end_an_unwatched_one(self) -> bool:
        unwatched = [lecture_id for lecture_id, lecture in self._lectures.items() if not lecture.watched]
        if unwatched:
            del self._lectures[min(unwatched, key=lambda lecture_id: self._lectures[lecture_id].ends_first)]
        return bool(unwatched)
