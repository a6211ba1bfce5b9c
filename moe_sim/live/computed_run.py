"""A run as far as anybody has computed it: whoever watches the same run reads the same numbers, computed once."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

from moe_sim.config.events import Event
from moe_sim.config.knobs import live_changes
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import SCALARS, History
from moe_sim.history.probe import Probe
from moe_sim.live.runners.pool import Pool, WorkerLost
from moe_sim.live.runners.runner import LocalRunner, Progress, Runner
from moe_sim.tasks.catalogue import make_task
from moe_sim.tasks.task import Task

STEP = SCALARS.index("step")
SOON = 300
"""Steps that are quickly done again by a process that has just become ready; a longer run stays where it is."""
MOST_LOSSES = 3
"""Worker processes that a run may lose without getting any further."""


class ComputedRun:
    """Has a run computed step by step, on demand. Shared by all who follow the same run until one of them moves a knob
    by hand. All methods may be called from any thread."""

    def __init__(
        self, history: History, plan: tuple[Event, ...], pool: Pool, runner: Runner | None, probes: Sequence[Probe],
        *, shared: bool = False, task: Task | None = None,
    ) -> None:  # fmt: skip
        self.history = history
        """As far as it has been computed."""
        self.plan = plan
        """Live knobs that move at their step."""
        self.task = task or make_task(history.initial_config)
        self.diverged = False
        """Whether there is nothing left to compute."""
        self.failed = False
        """Whether computing it failed."""
        self.is_shared = shared
        """Whether others may follow it too: then knobs are moved by its plan only."""
        self.followers: WeakSet[Any] = WeakSet()
        """Who reads it."""
        self._pool, self._runner = pool, runner
        self._probes = list(probes)
        self._losses = 0
        self._lock = threading.RLock()

    @classmethod
    def begin(
        cls, config: RunConfig, plan: tuple[Event, ...], pool: Pool, *, shared: bool = False
    ) -> ComputedRun:  # fmt: skip
        """A run at step 0."""
        computed = cls(History(config), plan, pool, pool.begin(config, plan), (), shared=shared)
        computed.look(0)
        return computed

    @classmethod
    def recorded(cls, history: History, probe: Probe | None) -> ComputedRun:
        """A run that is over. Without a look at its routing map, the map is as at the start."""
        probes = (probe,) if probe else LocalRunner(history.initial_config).look().probes
        return cls(history, history.events, Pool(), None, probes)

    @property
    def is_recorded(self) -> bool:
        """Whether it is over, its weights gone."""
        return self._runner is None

    @property
    def worker(self) -> int:
        """Who computes it; see `Runner`."""
        return self._runner.worker if self._runner else 0

    def reach(self, step: int, seconds: float) -> int:
        """Compute towards `step`, but begin no step after so many seconds.

        Returns:
            The last step that there is now, at most `step`.
        """
        with self._lock:
            if len(self.history) < step and not self.diverged and self._runner is not None:
                if self._runner.worker == 0 and len(self.history) <= SOON and self._pool.processes:
                    self._begin_anew()  # the processes were not ready yet when this run began
                self._ask(lambda runner: self._advance(runner, step, seconds))
            return min(step, len(self.history))

    def probe(self, step: int) -> Probe:
        """How held-out tokens are routed after `step` steps, or a few steps before."""
        probes = self._probes
        return probes[max(0, bisect_right(probes, step, key=lambda probe: probe.step) - 1)]

    def look(self, step: int) -> None:
        """Have `probe` know the newest step, where that is `step`, exactly."""
        with self._lock:
            known = self._probes and self._probes[-1].step == step
            if step == len(self.history) and not known and not self.diverged and self._runner is not None:
                self._ask(lambda runner: runner.look())

    def update(self, changes: Mapping[str, Any], plan: tuple[Event, ...]) -> None:
        """Move live knobs now, and follow another plan from now on. Only where it is not shared.

        Raises:
            ValueError: as `Trainer.update` does; nothing has changed then.
        """
        with self._lock:
            step = len(self.history)
            changed = live_changes(self.history.config_at(step + 1), changes)
            self.plan = plan
            if changed:
                self.history.record_event(Event(step, changed))
            self._ask(lambda runner: runner.update(self._moves_for(runner), self._course()))

    def branch(self, step: int, plan: tuple[Event, ...]) -> ComputedRun:
        """The same run up to `step`, on its own from there on, and with another plan."""
        with self._lock:
            part = self.history.until(step)
            history = History(part.initial_config)
            history.extend(part.rows())
            history.events = self.history.events if step == len(self.history) else part.events
            probes = [probe for probe in self._probes if probe.step <= step] or self._probes[:1]
            twin = ComputedRun(history, plan, self._pool, self._runner, probes, task=self.task)
            twin.diverged = self.diverged and step == len(self.history)
            if self._runner is not None:
                try:
                    twin._runner = self._runner.copy(step, twin._course())
                except WorkerLost:
                    twin._runner = self._pool.begin(history.initial_config, twin._course())
            return twin

    def _course(self) -> tuple[Event, ...]:
        """Every move of a knob, made and planned."""
        done = self.history.events
        return done + tuple(e for e in self.plan if e.step >= len(self.history) and e not in done)

    def _moves_for(self, runner: Runner) -> dict[str, Any]:
        """The moves made at the newest step; none for a computation that has still to come so far again, as its plan
        has them."""
        newest = self.history.events[-1:]
        here = newest and newest[0].step == len(self.history) == runner.steps_done
        return newest[0].changes if here else {}

    def _advance(self, runner: Runner, step: int, seconds: float) -> Progress:
        """A turn. Steps that are known already (after a move to another process, or a branch) are done again first."""
        keep = self.is_shared and len(self.followers) > 1
        return runner.advance(step - runner.steps_done, seconds, keep=keep)

    def _ask(self, question: Callable[[Runner], Progress]) -> None:
        """Ask whoever computes, and take in what is new. Where a process was lost, another one begins anew."""
        while True:
            assert self._runner is not None
            if self.failed:
                raise RuntimeError("this run has failed before")
            try:
                progress = question(self._runner)
            except WorkerLost:
                self._losses += 1
                if self._losses > MOST_LOSSES:
                    raise
                self._begin_anew()
            except Exception:
                self.failed = True
                raise
            else:
                return self._take(progress)

    def _begin_anew(self) -> None:
        self._runner = self._pool.begin(self.history.initial_config, self._course())

    def _take(self, progress: Progress) -> None:
        known = len(self.history)
        for event in progress.events:
            if event.step >= known:
                self.history.record_event(event)
        self.history.extend(progress.rows[progress.rows[:, STEP] > known])
        self.diverged = progress.diverged and progress.steps_done >= len(self.history)
        new = [probe for probe in progress.probes if probe.step >= known]
        if new:
            before = [probe for probe in self._probes if probe.step < new[0].step] if self.is_shared else []
            self._probes = before + (new if self.is_shared else new[-1:])
        if progress.steps_done > known:
            self._losses = 0
