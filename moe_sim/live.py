"""A training run that can be watched and controlled while a scheduler advances it in the background."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from moe_sim.config import RunConfig
from moe_sim.history import Event, History
from moe_sim.thresholds import Thresholds
from moe_sim.trainer import Probe, Trainer

State = Literal["ready", "training", "paused", "finished", "diverged", "failed"]

DEFAULT_BUDGET = 2_000
DEFAULT_RATE = 60.0
RATES = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, math.inf)
"""Target rates in steps/s to choose from; ∞ is “as fast as possible”."""
LEASE_GRACE = 10.0
"""Seconds that a run goes on after its last viewer left."""
PROBE_INTERVAL = 0.2
"""Seconds between two looks at the routing map while training."""

log = logging.getLogger(__name__)


class LiveRun:
    """One training run that can be watched and controlled while it goes on. All methods may be called from any thread.

    What it did is in `history`, which never needs a lock; `probe` is the newest routing of the held-out tokens.
    """

    def __init__(self, config: RunConfig, plan: tuple[Event, ...] = (), rate: float = DEFAULT_RATE) -> None:
        self.id = secrets.token_urlsafe(16)
        self.trainer = Trainer(config)
        self.history = self.trainer.history
        self.probe: Probe = self.trainer.probe()
        self.plan = plan
        """Live knobs that move by themselves at their step, unless a hand has moved that knob."""
        self.rate = rate
        self.budget = DEFAULT_BUDGET
        self.thresholds = Thresholds()
        """Where the diagnosis draws its lines."""
        self.on_wake: Callable[[LiveRun], None] | None = None
        """Called when the run may want steps; the scheduler's."""
        self.forgotten = False
        """The scheduler has let go of it: nothing will happen any more."""
        self.is_recorded = False
        self.queued = False
        """Owned by the scheduler: it will look at this run again."""
        self.last_watched = time.monotonic()
        self._viewers = 0
        self._training = False
        self._single_steps = 0
        self._catch_up = 0
        self._failed = False
        self._lock = threading.RLock()
        self._probed_at = 0.0
        self._pace: deque[tuple[float, int]] = deque(maxlen=120)

    @property
    def config(self) -> RunConfig:
        """The configuration in force."""
        return self.trainer.config

    @property
    def start_config(self) -> RunConfig:
        """The configuration that, with `plan`, gives this run again: knobs moved by hand as they are now, knobs moved
        by the plan as they were at step 0."""
        planned = {name for event in self.plan for name in event.changes}
        return self.config.replace(**{name: getattr(self.history.initial_config, name) for name in planned})

    @property
    def state(self) -> State:
        """What the run is doing, viewers or not."""
        if self._failed:
            return "failed"
        if self.trainer.diverged:
            return "diverged"
        if self.trainer.steps_done >= self.budget:
            return "finished"
        if self._training:
            return "training"
        return "paused" if self.trainer.steps_done else "ready"

    @property
    def watched(self) -> bool:
        """Whether somebody watches, or did a moment ago."""
        return self._viewers > 0 or time.monotonic() - self.last_watched < LEASE_GRACE

    @property
    def wants_step(self) -> bool:
        """Whether the scheduler should give it a step when its time comes."""
        asked = self._single_steps > 0 or self.catching_up
        return self.watched and (self.state == "training" or (asked and self.state in ("ready", "paused")))

    @property
    def catching_up(self) -> bool:
        """Whether it hurries to the step at which another run was branched off."""
        return self.trainer.steps_done < self._catch_up

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
        """Go on until paused, finished or diverged. A finished run needs `extend` first."""
        self._training = True
        self._wake()

    @classmethod
    def recorded(cls, history: History, probe: Probe | None) -> LiveRun:
        """A run that is over, to be looked at: its weights are gone, so it cannot go on."""
        run = cls(history.initial_config, history.events)
        run.history = run.trainer.history = history
        run.trainer.config = history.config_at(len(history) + 1)
        run.probe = probe or run.probe
        run.budget, run.is_recorded = len(history), True
        return run

    def branch(self) -> LiveRun:
        """A run of its own that does again what this one did so far, as fast as it can, and then waits to go on."""
        with self._lock:
            steps, done = self.trainer.steps_done, self.history.events
        still_planned = tuple(event for event in self.plan if event.step >= steps and event not in done)
        twin = LiveRun(self.history.initial_config, done + still_planned, rate=self.rate)
        twin.budget, twin.thresholds, twin._catch_up = self.budget, self.thresholds, steps
        if steps == 0:
            twin._follow_plan()
        return twin

    def pause(self) -> None:
        """Stop after the step going on."""
        self._training = False
        with self._lock:
            self._refresh_probe()

    def single_step(self) -> None:
        """Pause and do one step."""
        self._training = False
        self._single_steps += 1
        self._wake()

    def extend(self, steps: int = 1_000) -> None:
        """Raise the step budget. A recorded run has none to raise."""
        if self.is_recorded:
            return
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

    def update(self, **changes: Any) -> None:
        """Move live knobs by hand. Planned moves of the same knob are off then. A recorded run stays as it was.

        Raises:
            ValueError: as `Trainer.update` does; nothing has changed then.
        """
        with self._lock:
            if self.is_recorded:
                return
            self.trainer.update(**changes)
            kept = ((e.step, {k: v for k, v in e.changes.items() if k not in changes}) for e in self.plan)
            self.plan = tuple(Event(step, rest) for step, rest in kept if rest)
            try:
                _ = self.start_config
            except ValueError:  # what the hand did does not go with how the plan began
                self.plan = ()
            self._refresh_probe()

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Watch the run: it may train as long as one of these is open."""
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
        """Do one step. The scheduler's to call. An error ends this run only, and is logged."""
        with self._lock:
            if not self.wants_step:
                return
            self._single_steps = max(0, self._single_steps - 1)
            try:
                hurrying = self.catching_up
                self._follow_plan()
                self.trainer.step()
                if hurrying and not self.catching_up:
                    self._follow_plan()  # moves made at the very step at which the run was branched off
                now = time.monotonic()
                self._pace.append((now, self.trainer.steps_done))
                if now - self._probed_at >= PROBE_INTERVAL or self.state != "training":
                    self._refresh_probe()
            except Exception:
                self._failed = True
                log.exception("run failed after step %d: %s", self.trainer.steps_done, self.config)

    def _follow_plan(self) -> None:
        for event in self.plan:
            if event.step == self.trainer.steps_done:
                try:
                    self.trainer.update(**event.changes)
                except ValueError as error:  # a knob moved by hand in between has made it impossible
                    log.warning("planned move at step %d left out: %s", event.step, error)

    def _refresh_probe(self) -> None:
        self._probed_at = time.monotonic()
        if not self.trainer.diverged and not self.is_recorded:
            self.probe = self.trainer.probe()

    def _wake(self) -> None:
        if self.on_wake is not None:
            self.on_wake(self)
