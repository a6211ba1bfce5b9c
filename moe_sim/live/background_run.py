"""What can be watched while it trains in the background: play, pause, single steps, speed, and who looks on."""

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

State = Literal["ready", "training", "paused", "finished", "diverged", "failed"]

DEFAULT_BUDGET = 2_000
DEFAULT_RATE = 60.0
RATES = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, math.inf)
"""Target rates in steps/s to choose from; ∞ is “as fast as possible”."""
TURNS_PER_SECOND = 15.0
"""A run that asks for more steps/s does several in one turn."""
MOST_STEPS_PER_TURN = 8
TURN = 0.025
"""Seconds after which no further step of a turn is begun."""
LEASE_GRACE = 10.0
"""Seconds that training goes on after the last viewer left."""

log = logging.getLogger(__name__)


class BackgroundRun(ABC):
    """Advances step by step while somebody watches it. All methods may be called from any thread."""

    def __init__(self, rate: float = DEFAULT_RATE) -> None:
        self.id = secrets.token_urlsafe(16)
        self.rate = rate
        self.budget = DEFAULT_BUDGET
        self.on_wake: Callable[[BackgroundRun], None] | None = None
        """Called when it may want steps; the scheduler's."""
        self.forgotten = False
        """The scheduler has let go of it: nothing will happen any more."""
        self.queued = False
        """Owned by the scheduler: it will look here again."""
        self.place = 0
        """Its place in the line of those who wait for their turn to train; 0 where it does not wait."""
        self.last_watched = time.monotonic()
        self._viewers = 0
        self._training = False
        self._single_steps = 0
        self._catch_up = 0
        self._failed = False
        self._lock = threading.RLock()
        self._pace: deque[tuple[float, int]] = deque(maxlen=120)

    @property
    @abstractmethod
    def steps_done(self) -> int:
        """Steps so far."""

    @property
    @abstractmethod
    def diverged(self) -> bool:
        """Whether there is nothing left to train."""

    @property
    def worker(self) -> int:
        """Whose work its steps are; see `moe_sim.live.runners.runner.Runner`."""
        return 0

    @property
    def computed_runs(self) -> frozenset[int]:
        """What has to be computed for it, the same number for the same."""
        return frozenset({id(self)})

    @abstractmethod
    def advance_by(self, count: int, seconds: float = math.inf) -> None:
        """Do so many steps, whatever the state; begin none after so many seconds."""

    @property
    def state(self) -> State:
        """What it is doing, viewers or not."""
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
        """Whether somebody watches, or did a moment ago."""
        return self._viewers > 0 or time.monotonic() - self.last_watched < LEASE_GRACE

    @property
    def viewers(self) -> int:
        """How many watch now."""
        return self._viewers

    @property
    def wants_step(self) -> bool:
        """Whether the scheduler should give it a step when its time comes."""
        asked = self._single_steps > 0 or self.catching_up
        return self.watched and (self.state == "training" or (asked and self.state in ("ready", "paused")))

    @property
    def catching_up(self) -> bool:
        """Whether it hurries to the step at which another one was branched off."""
        return self.steps_done < self._catch_up

    @property
    def steps_per_turn(self) -> int:
        """How many steps are done without looking up: a few at high rates, as each turn costs something too."""
        if self.catching_up:
            return min(MOST_STEPS_PER_TURN, self._catch_up - self.steps_done)
        if self._single_steps:
            return self._single_steps
        count = int(min(MOST_STEPS_PER_TURN, max(1.0, self.rate // TURNS_PER_SECOND)))
        return min(count, self.budget - self.steps_done)

    @property
    def target_rate(self) -> float:
        """Steps/s to aim at: what was asked for, but for catching up."""
        return math.inf if self.catching_up else self.rate

    @property
    def measured_rate(self) -> float:
        """Steps/s over the last two seconds or so; 0 when it stands still."""
        pace = list(self._pace)
        now = time.monotonic()
        recent = [(at, step) for at, step in pace if now - at < 2.0]
        if len(recent) < 2 or now - recent[-1][0] > 1.5:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def train(self) -> None:
        """Go on until paused, finished or diverged. Where the budget is used up, `extend` comes first."""
        self._training = True
        self._wake()

    def pause(self) -> None:
        """Stop after the step going on."""
        self._training = False

    def single_step(self) -> None:
        """Pause and do one step."""
        self._training = False
        self._single_steps += 1
        self._wake()

    def extend(self, steps: int = 1_000) -> None:
        """Raise the step budget."""
        self.budget += steps
        self._wake()

    def set_rate(self, rate: float) -> None:
        """Ask for another number of steps/s, one of `RATES`.

        Raises:
            ValueError: for a rate that is not offered.
        """
        if rate not in RATES:
            raise ValueError(f"rate must be one of {RATES}, not {rate!r}")
        self.rate = rate
        self._wake()

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Watch: it may train as long as one of these is open."""
        with self._lock:
            self._viewers += 1
        self.touch()
        try:
            yield
        finally:
            with self._lock:
                self._viewers -= 1
            self.touch()

    def touch(self) -> None:
        """Note that somebody has just looked."""
        self.last_watched = time.monotonic()
        self._wake()

    def advance(self) -> None:
        """Do one turn. The scheduler's to call. An error ends this one only, and is logged."""
        with self._lock:
            if not self.wants_step:
                return
            before, hurrying = self.steps_done, self.catching_up
            try:
                self.advance_by(self.steps_per_turn, TURN)
            except Exception:
                self._failed = True
                log.exception("failed after step %d: %r", self.steps_done, self)
            if not hurrying:  # a step that was asked for on the way is still to come
                self._single_steps = max(0, self._single_steps - (self.steps_done - before))
            self._pace.append((time.monotonic(), self.steps_done))

    def _wake(self) -> None:
        if self.on_wake is not None:
            self.on_wake(self)
