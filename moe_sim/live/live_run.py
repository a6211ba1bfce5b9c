"""A training run that can be watched and controlled while a scheduler advances it in the background."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from moe_sim.config.events import Event
from moe_sim.config.knobs import live_changes
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.live.background_run import DEFAULT_RATE, BackgroundRun
from moe_sim.live.computed_run import ComputedRun
from moe_sim.live.shared_runs import SharedRuns
from moe_sim.tasks.task import Task


class LiveRun(BackgroundRun):
    """One training run that can be watched and controlled while it goes on. All methods may be called from any thread.

    Runs of the same configuration and plan share one `ComputedRun`: each goes through it at its own pace, and what one
    has had computed need not be computed for the others. The first knob that is moved by hand branches off.
    """

    def __init__(
        self, config: RunConfig, plan: tuple[Event, ...] = (), rate: float = DEFAULT_RATE,
        computed: ComputedRun | None = None, runs: SharedRuns | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            config: the configuration at step 0.
            plan: live knobs that change at their step.
            rate: steps/s to aim at.
            computed: the run, if it has begun elsewhere.
            runs: computes runs and shares equal ones; by default this process computes it, shared with nobody.
        """
        super().__init__(rate)
        self._runs = runs or SharedRuns()
        self._computed = computed or self._runs.follow(config, plan, self)
        self._position = 0
        self.thresholds = Thresholds()
        """Where the diagnosis draws its lines."""

    def __repr__(self) -> str:
        return f"LiveRun({self.config!r})"

    @property
    def history(self) -> History:
        """What it did so far. Reading it never needs a lock."""
        computed = self._computed
        return computed.history.until(self._position) if computed.is_shared else computed.history

    @property
    def plan(self) -> tuple[Event, ...]:
        """Live knobs that move by themselves at their step, unless a hand has moved that knob."""
        return self._computed.plan

    @property
    def probe(self) -> Probe:
        """How the held-out tokens are routed now, or were a few steps ago."""
        return self._computed.probe(self.steps_done)

    @property
    def task(self) -> Task:
        """What is learned."""
        return self._computed.task

    @property
    def worker(self) -> int:
        return self._computed.worker

    @property
    def computed_runs(self) -> frozenset[int]:
        return frozenset({id(self._computed)})

    @property
    def config(self) -> RunConfig:
        """The configuration in force."""
        history = self.history
        return history.config_at(len(history) + 1)

    @property
    def start_config(self) -> RunConfig:
        """The configuration that, with `plan`, gives this run again: knobs moved by hand as they are now, knobs moved
        by the plan as they were at step 0."""
        return self._start_config(self.config, self.plan)

    def _start_config(self, config: RunConfig, plan: tuple[Event, ...]) -> RunConfig:
        planned = {name for event in plan for name in event.changes}
        return config.replace(**{name: getattr(self.history.initial_config, name) for name in planned})

    @property
    def course(self) -> tuple[Event, ...]:
        """Every move of a knob, in order of steps: those made so far and those still planned."""
        with self._lock:
            done = self.history.events
            coming = (event for event in self.plan if event.step >= self.steps_done and event not in done)
            return done + tuple(coming)

    @property
    def steps_done(self) -> int:
        computed = self._computed
        return self._position if computed.is_shared else len(computed.history)

    @property
    def diverged(self) -> bool:
        computed = self._computed
        return computed.diverged and self.steps_done == len(computed.history)

    @property
    def is_recorded(self) -> bool:
        """Whether it is over, to be looked at only."""
        return self._computed.is_recorded

    @classmethod
    def recorded(cls, history: History, probe: Probe | None, runs: SharedRuns | None = None) -> LiveRun:
        """A run that is over, to be looked at: its weights are gone, so it cannot go on."""
        run = cls(history.initial_config, computed=ComputedRun.recorded(history, probe), runs=runs)
        run.budget = len(history)
        return run

    @classmethod
    def again(cls, config: RunConfig, course: tuple[Event, ...], steps: int, runs: SharedRuns | None = None) -> LiveRun:
        """A run that hurries to a step, following a course, and then waits to go on."""
        run = cls(config, course, runs=runs)
        run._catch_up = steps
        if steps == 0:
            run.follow_plan()
        return run

    def branch(self) -> LiveRun:
        """A run of its own that has done what this one did so far, and waits to go on. Of a recorded run, one that does
        it all again, as fast as it can."""
        with self._lock:
            steps, course = self.steps_done, self.course
            if self.is_recorded:
                twin = LiveRun.again(self.history.initial_config, course, steps, self._runs)
            else:
                computed = self._computed.branch(steps, course)
                twin = LiveRun(self.history.initial_config, course, computed=computed, runs=self._runs)
        twin.rate, twin.budget, twin.thresholds = self.rate, self.budget, self.thresholds
        return twin

    def pause(self) -> None:
        """Stop after the turn going on."""
        super().pause()
        with self._lock:
            self._computed.look(self.steps_done)

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
            changed = live_changes(self.config, changes)
            kept = ((e.step, {k: v for k, v in e.changes.items() if k not in changes}) for e in self.plan)
            plan = tuple(Event(step, rest) for step, rest in kept if rest)
            try:
                self._start_config(self.config.replace(**changed), plan)
            except ValueError:  # what the hand did does not go with how the plan began
                plan = ()
            if changed or plan != self.plan:
                self._own().update(changes, plan)

    def _own(self) -> ComputedRun:
        """The computed, now nobody else's."""
        computed = self._runs.own(self._computed, self, self.steps_done)
        if computed is not self._computed:
            self._computed.followers.discard(self)
            self._computed = computed
        return computed

    def advance_by(self, count: int, seconds: float = math.inf) -> None:
        hurrying = self.catching_up
        self._position = self._computed.reach(self.steps_done + count, seconds)
        if hurrying and not self.catching_up:
            self.follow_plan()
        if self.state != "training" and not self.catching_up:
            self._computed.look(self._position)

    def follow_plan(self) -> None:
        """Move the knobs that are to move at this very step, instead of with the next one."""
        moves = {name: value for e in self.plan if e.step == self.steps_done for name, value in e.changes.items()}
        if moves:
            with suppress(ValueError):  # a knob moved by hand in between has made it impossible
                self._own().update(moves, self.plan)
