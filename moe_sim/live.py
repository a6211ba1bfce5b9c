"""A training run that can be watched and controlled while a scheduler advances it in the background."""

from __future__ import annotations

import logging
import time
from typing import Any

from moe_sim.config import RunConfig
from moe_sim.history import Event, History
from moe_sim.playback import DEFAULT_RATE, Playback
from moe_sim.thresholds import Thresholds
from moe_sim.trainer import Probe, Trainer

PROBE_INTERVAL = 0.2
"""Seconds between two looks at the routing map while training."""

log = logging.getLogger(__name__)


class LiveRun(Playback):
    """One training run that can be watched and controlled while it goes on. All methods may be called from any thread.

    What it did is in `history`, which never needs a lock; `probe` is the newest routing of the held-out tokens.
    """

    def __init__(self, config: RunConfig, plan: tuple[Event, ...] = (), rate: float = DEFAULT_RATE) -> None:
        super().__init__(rate)
        self.trainer = Trainer(config)
        self.history = self.trainer.history
        self.probe: Probe = self.trainer.probe()
        self.plan = plan
        """Live knobs that move by themselves at their step, unless a hand has moved that knob."""
        self.thresholds = Thresholds()
        """Where the diagnosis draws its lines."""
        self.is_recorded = False
        self._probed_at = 0.0

    def __repr__(self) -> str:
        return f"LiveRun({self.config!r})"

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
    def course(self) -> tuple[Event, ...]:
        """Every move of a knob, in order of steps: those made so far and those still planned."""
        with self._lock:
            done = self.history.events
            coming = (event for event in self.plan if event.step >= self.steps_done and event not in done)
            return done + tuple(coming)

    @property
    def steps_done(self) -> int:
        return self.trainer.steps_done

    @property
    def diverged(self) -> bool:
        return self.trainer.diverged

    @classmethod
    def recorded(cls, history: History, probe: Probe | None) -> LiveRun:
        """A run that is over, to be looked at: its weights are gone, so it cannot go on."""
        run = cls(history.initial_config, history.events)
        run.history = run.trainer.history = history
        run.trainer.config = history.config_at(len(history) + 1)
        run.probe = probe or run.probe
        run.budget, run.is_recorded = len(history), True
        return run

    @classmethod
    def again(cls, config: RunConfig, course: tuple[Event, ...], steps: int) -> LiveRun:
        """A run that hurries to a step, following a course, and then waits to go on."""
        run = cls(config, course)
        run._catch_up = steps
        if steps == 0:
            run.follow_plan()
        return run

    def branch(self) -> LiveRun:
        """A run of its own that does again what this one did so far, as fast as it can, and then waits to go on."""
        with self._lock:
            steps, course = self.steps_done, self.course
        twin = LiveRun.again(self.history.initial_config, course, steps)
        twin.rate, twin.budget, twin.thresholds = self.rate, self.budget, self.thresholds
        return twin

    def pause(self) -> None:
        """Stop after the step going on."""
        super().pause()
        with self._lock:
            self._refresh_probe()

    def extend(self, steps: int = 1_000) -> None:
        """Raise the step budget. A recorded run has none to raise."""
        if not self.is_recorded:
            super().extend(steps)

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

    def take_step(self) -> None:
        hurrying = self.catching_up
        self.follow_plan()
        self.trainer.step()
        if hurrying and not self.catching_up:
            self.follow_plan()  # moves made at the very step at which the run was branched off
        if time.monotonic() - self._probed_at >= PROBE_INTERVAL or self.state != "training":
            self._refresh_probe()

    def follow_plan(self) -> None:
        """Move the knobs that are to move at this step."""
        for event in self.plan:
            if event.step == self.steps_done:
                try:
                    self.trainer.update(**event.changes)
                except ValueError as error:  # a knob moved by hand in between has made it impossible
                    log.warning("planned move at step %d left out: %s", event.step, error)

    def _refresh_probe(self) -> None:
        self._probed_at = time.monotonic()
        if not self.diverged and not self.is_recorded:
            self.probe = self.trainer.probe()
