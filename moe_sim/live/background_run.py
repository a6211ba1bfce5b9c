"""The base class of runs that train in the background: playback, speed and viewers' leases."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from moe_sim.config.limits import MOST_STEPS

State = Literal["ready", "training", "paused", "finished", "diverged", "failed"]

DEFAULT_BUDGET = 2_000
DEFAULT_RATE = 60.0
SLOW_RATE, SLOW_STEPS = 5.0, 100
"""A slow start begins with this many steps/s and reaches the chosen rate after so many steps: by then, a router that
begins even has usually collapsed."""
RATES = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, math.inf)
"""Target rates in steps/s to choose from; ∞ means “as fast as possible”."""
TURNS_PER_SECOND = 15.0
"""A run with a higher rate takes several steps per turn."""
MOST_STEPS_PER_TURN = 8
TURN = 0.025
"""Seconds after which a turn starts no further step."""
LEASE_GRACE = 10.0
"""Seconds that training continues after the last viewer has left."""
DESERTED_AFTER = 2.0
"""Seconds that training continues after the last session with the run on its page has left. A page that is loaded again
takes less; after a longer break the run goes on where it stood."""
FORGET_SESSION = 180.0
"""Seconds after which a session cannot return: Streamlit keeps one for 120 s after its connection is lost."""

log = logging.getLogger(__name__)


class BackgroundRun(ABC):
    """Advances step by step while someone watches it. All methods may be called from any thread."""

    def __init__(self, rate: float = DEFAULT_RATE) -> None:
        self.id = secrets.token_urlsafe(16)
        self.rate = rate
        self.slow_start = False
        """Whether the first `SLOW_STEPS` steps are slow enough to be watched; ends when the visitor sets a rate."""
        self.budget = DEFAULT_BUDGET
        self.on_wake: Callable[[BackgroundRun], None] | None = None
        """Set by the scheduler: called when the run may want steps."""
        self.forgotten = False
        """Whether the scheduler has dropped it for good."""
        self.queued = False
        """Set by the scheduler while the run is queued for a turn or takes one."""
        self.queue_position = 0
        """Its position in the queue for admission; 0 if it does not wait."""
        self.last_watched = time.monotonic()
        self._viewers = 0
        self._sessions: dict[Callable[[], bool], float] = {}
        """Sessions that have it on their page, and when each was connected last."""
        self._viewers_lock = threading.Lock()
        """Of viewers and sessions; a turn does not hold it."""
        self._training = False
        self._single_steps = 0
        self._catch_up = 0
        self._failed = False
        self._lock = threading.RLock()
        self._turn_began = (0, False)
        """The step at which the turn began, and whether it was catching up."""
        self._pace: deque[tuple[float, int]] = deque(maxlen=120)

    @property
    @abstractmethod
    def steps_done(self) -> int:
        """Number of steps so far."""

    @property
    @abstractmethod
    def diverged(self) -> bool:
        """Whether training has diverged and cannot continue."""

    @property
    def can_extend(self) -> bool:
        """Whether the step budget may grow."""
        return self.budget < MOST_STEPS

    @property
    def worker(self) -> int:
        """The worker that computes its steps; see `moe_sim.live.runners.runner.Runner`."""
        return 0

    @property
    def recomputed(self) -> int | None:
        """While it is computed again up to the step it had reached, after the loss of its worker process: the number of
        steps computed again. Otherwise None."""
        return None

    @property
    def computed_runs(self) -> frozenset[int]:
        """The ids of the computations it needs; equal runs have the same."""
        return frozenset({id(self)})

    @abstractmethod
    def advance_by(self, count: int, seconds: float = math.inf) -> None:
        """Takes `count` steps, whatever the state, but starts none after `seconds`."""

    @property
    def state(self) -> State:
        """The state, with or without viewers."""
        if self._failed:
            return "failed"
        if self.diverged:
            return "diverged"
        if self.steps_done >= self.budget:
            return "finished"
        if self._training:
            return "training"
        return "paused" if self.steps_done else "ready"

    @property
    def watched(self) -> bool:
        """Whether someone watches, or did within the last `LEASE_GRACE` seconds."""
        return self._viewers > 0 or time.monotonic() - self.last_watched < LEASE_GRACE

    @property
    def viewers(self) -> int:
        """Number of current viewers."""
        return self._viewers

    @property
    def sessions(self) -> int:
        """Number of connected sessions that have it on their page."""
        return sum(session() for session in self._sessions)

    @property
    def seconds_deserted(self) -> float:
        """Seconds since the last of its sessions was connected; 0 if one is, or if it never had any."""
        sessions = self._sessions  # a new dictionary replaces it
        return time.monotonic() - max(sessions.values()) if sessions else 0.0

    @property
    def deserted(self) -> bool:
        """Whether all its sessions are gone, and were a moment ago."""
        return self.seconds_deserted >= DESERTED_AFTER

    @property
    def wants_step(self) -> bool:
        """Whether the scheduler should give it a turn when one is due."""
        requested = self._single_steps > 0 or self.catching_up
        wanted = self.state == "training" or (requested and self.state in ("ready", "paused"))
        return wanted and self.watched and not self.deserted

    @property
    def catching_up(self) -> bool:
        """Whether it is replaying at full speed to the step where it will wait."""
        return self.steps_done < self._catch_up

    @property
    def steps_per_turn(self) -> int:
        """Steps per turn: several at high rates, because each turn has overhead."""
        if self.catching_up:
            return min(MOST_STEPS_PER_TURN, self._catch_up - self.steps_done)
        if self._single_steps:
            return self._single_steps
        count = int(min(MOST_STEPS_PER_TURN, max(1.0, self.target_rate // TURNS_PER_SECOND)))
        return min(count, self.budget - self.steps_done)

    @property
    def target_rate(self) -> float:
        """Target steps/s: `rate`, unlimited while catching up or computed again, less in a slow start, where it grows
        geometrically."""
        if self.catching_up or self.recomputed is not None:
            return math.inf
        if self.slow_start and self.steps_done < SLOW_STEPS:
            return min(self.rate, SLOW_RATE * (DEFAULT_RATE / SLOW_RATE) ** (self.steps_done / SLOW_STEPS))
        return self.rate

    @property
    def measured_rate(self) -> float:
        """Steps/s over about the last two seconds; 0 when idle."""
        pace = list(self._pace)
        now = time.monotonic()
        recent = [(at, step) for at, step in pace if now - at < 2.0]
        if len(recent) < 2 or now - recent[-1][0] > 1.5:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def train(self) -> None:
        """Trains until paused, finished or diverged. If the budget is used up, call `extend` first."""
        self._training = True
        self._wake()

    def pause(self) -> None:
        """Stops after the current turn."""
        self._training = False

    def single_step(self) -> None:
        """Pauses, then takes one step."""
        self._training = False
        self._single_steps += 1
        self._wake()

    def extend(self, steps: int = 1_000) -> None:
        """Raises the step budget."""
        self.budget += steps
        self._wake()

    def set_rate(self, rate: float) -> None:
        """Sets the target rate in steps/s, one of `RATES`.

        Raises:
            ValueError: for any other rate.
        """
        if rate not in RATES:
            raise ValueError(f"rate must be one of {RATES}, not {rate!r}")
        self.rate, self.slow_start = rate, False
        self._wake()

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Counts a viewer until the context ends. The run trains only while at least one lease is open."""
        with self._viewers_lock:
            self._viewers += 1
        self.touch()
        try:
            yield
        finally:
            with self._viewers_lock:
                self._viewers -= 1
            self.touch()

    def keep_for(self, session: Callable[[], bool]) -> None:
        """Records that a session has the run on its page. From now on it trains only while one of its sessions is
        connected: an open stream alone, whose run nobody can control any more, is not enough.

        Args:
            session: says whether the session is connected. Equal ones count once.
        """
        with self._viewers_lock:
            self._sessions = {**self._sessions, session: time.monotonic()}

    def check_sessions(self) -> None:
        """Notes which sessions are connected; called by the scheduler, often."""
        if not self._sessions:
            return
        now, was_deserted = time.monotonic(), self.deserted
        with self._viewers_lock:
            seen = {session: now if session() else at for session, at in self._sessions.items()}
            newest = max(seen.values())  # is kept, however old: it says since when the run is deserted
            self._sessions = {session: at for session, at in seen.items() if at == newest or now - at < FORGET_SESSION}
        if was_deserted and newest == now:
            self._wake()

    def touch(self) -> None:
        """Records that someone is watching now."""
        self.last_watched = time.monotonic()
        self._wake()

    def advance(self) -> None:
        """Takes one turn, if it wants a step. An error ends only this run and is logged."""
        if count := self.begin_turn():
            try:
                self.advance_by(count, TURN)
            except Exception as error:
                self.end_turn(error)
            else:
                self.end_turn()

    def begin_turn(self) -> int:
        """Begins a turn. Whoever is given steps ends it, in the same thread; nobody else changes the run before that.

        Returns:
            How many steps to take: none if it wants none, or is being changed.
        """
        if not self._lock.acquire(blocking=False):
            return 0
        self._turn_began = (self.steps_done, self.catching_up)
        count = self.steps_per_turn if self.wants_step else 0
        if not count:
            self._lock.release()
        return count

    def end_turn(self, error: Exception | None = None) -> None:
        """Ends a turn; an error, which is logged, ends the run."""
        before, was_catching_up = self._turn_began
        if error is not None:
            self._failed = True
            log.error("Run failed after step %d: %r", self.steps_done, self, exc_info=error)
        if not was_catching_up:  # single steps requested while catching up come afterwards
            self._single_steps = max(0, self._single_steps - (self.steps_done - before))
        self._pace.append((time.monotonic(), self.steps_done))
        self._lock.release()

    def _wake(self) -> None:
        if self.on_wake is not None:
            self.on_wake(self)
