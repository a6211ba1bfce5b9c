"""A training run to watch and control while the scheduler advances it in the background."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from moe_sim.config.events import Event
from moe_sim.config.knobs import live_changes
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.live.background_run import DEFAULT_RATE, TURN, BackgroundRun
from moe_sim.live.computed_run import ComputedRun, reach_together
from moe_sim.live.shared_runs import SharedRuns
from moe_sim.tasks.task import Task
from moe_sim.trainer.prompting import Prompt


class LiveRun(BackgroundRun):
    """A training run to watch and control. All methods may be called from any thread.

    Runs with the same configuration and plan share one `ComputedRun`. Each moves through it at its own pace, and each
    step is computed only once for all. The first change by hand branches off.
    """

    def __init__(
        self, config: RunConfig, plan: tuple[Event, ...] = (), rate: float = DEFAULT_RATE,
        computed: ComputedRun | None = None, runs: SharedRuns | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            config: the configuration at step 0.
            plan: planned changes of live knobs.
            rate: target rate in steps/s.
            computed: the computed run, if it already exists.
            runs: computes runs and shares equal ones; by default, this process computes the run, shared with nobody.
        """
        super().__init__(rate)
        self._runs = runs or SharedRuns()
        self._computed = computed or self._runs.follow(config, plan, self)
        self._position = 0
        self.thresholds = Thresholds()
        """The thresholds of the diagnosis."""

    def __repr__(self) -> str:
        return f"LiveRun({self.config!r})"

    @property
    def history(self) -> History:
        """The steps so far. Reading it needs no lock."""
        computed = self._computed
        return computed.history.until(self._position) if computed.is_shared else computed.history

    @property
    def plan(self) -> tuple[Event, ...]:
        """Planned changes, except of knobs that were changed by hand."""
        return self._computed.plan

    @property
    def probe(self) -> Probe:
        """The newest probe of the held-out tokens' routing, at most a few steps old."""
        return self._computed.probe(self.steps_done)

    @property
    def task(self) -> Task:
        """The task that the model learns."""
        return self._computed.task

    @property
    def worker(self) -> int:
        return self._computed.worker

    @property
    def recomputed(self) -> int | None:
        computed = self._computed
        return computed.recomputed if self.steps_done == len(computed.history) else None

    @property
    def computed_runs(self) -> frozenset[int]:
        return frozenset({id(self._computed)})

    @property
    def config(self) -> RunConfig:
        """The current configuration."""
        history = self.history
        return history.config_at(len(history) + 1)

    @property
    def start_config(self) -> RunConfig:
        """The configuration to restart this run with, together with `plan`: current values, except that planned knobs
        have their values of step 0."""
        return self._start_config(self.config, self.plan)

    def _start_config(self, config: RunConfig, plan: tuple[Event, ...]) -> RunConfig:
        planned = {name for event in plan for name in event.changes}
        return config.replace(**{name: getattr(self.history.initial_config, name) for name in planned})

    @property
    def course(self) -> tuple[Event, ...]:
        """All changes in order of steps, made and planned. Reading it needs no lock, which a turn holds for long."""
        steps, plan = self.steps_done, self.plan
        made = self.history.events  # read last: a change that has been made since is not lost
        return made + tuple(event for event in plan if event.step >= steps and event not in made)

    @property
    def steps_done(self) -> int:
        computed = self._computed
        return self._position if computed.is_shared else len(computed.history)

    @property
    def diverged(self) -> bool:
        computed = self._computed
        return computed.diverged and self.steps_done == len(computed.history)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds, about; runs that share them each count all."""
        return self._computed.nbytes

    @property
    def is_recorded(self) -> bool:
        """Whether it is a recording, to view only."""
        return self._computed.is_recorded

    @property
    def can_extend(self) -> bool:
        return super().can_extend and not self.is_recorded

    @classmethod
    def recorded(cls, history: History, probe: Probe | None, runs: SharedRuns | None = None) -> LiveRun:
        """Returns a finished run to view. Its weights are gone, so it cannot continue."""
        run = cls(history.initial_config, computed=ComputedRun.recorded(history, probe), runs=runs)
        run.budget = len(history)
        return run

    @classmethod
    def again(cls, config: RunConfig, course: tuple[Event, ...], steps: int, runs: SharedRuns | None = None) -> LiveRun:
        """Returns a run that replays a course up to step `steps` at full speed and then waits."""
        run = cls(config, course, runs=runs)
        run._catch_up = steps
        if steps == 0:
            run.follow_plan()
        return run

    def prompt(self, prompt: Prompt) -> dict[str, Any]:
        """Lets the language model answer; see `ComputedRun.prompt`."""
        return self._computed.prompt(prompt)

    def branch(self) -> LiveRun:
        """Returns an independent copy of this run, waiting at the same step. The copy of a recorded run first replays
        it at full speed."""
        with self._lock:
            steps, course = self.steps_done, self.course
            if self.is_recorded:
                twin = LiveRun.again(self.history.initial_config, course, steps, self._runs)
            else:
                computed = self._computed.branch(steps, course)
                twin = LiveRun(self.history.initial_config, course, computed=computed, runs=self._runs)
        twin.rate, twin.budget, twin.thresholds = self.rate, self.budget, self.thresholds
        twin.slow_start = self.slow_start
        return twin

    def pause(self) -> None:
        """Stops after the current turn, and probes the routing there."""
        super().pause()
        with self._lock:
            self._computed.look(self.steps_done)

    def extend(self, steps: int = 1_000) -> None:
        """Raises the step budget. Has no effect on a recorded run."""
        if not self.is_recorded:
            super().extend(steps)

    def update(self, **changes: Any) -> None:
        """Changes live knobs by hand, which cancels planned changes of the same knobs. Has no effect on a recorded run.

        Raises:
            ValueError: as in `Trainer.update`; nothing changes then.
        """
        with self._lock:
            if self.is_recorded:
                return
            changed = live_changes(self.config, changes)
            kept = ((e.step, {k: v for k, v in e.changes.items() if k not in changes}) for e in self.plan)
            plan = tuple(Event(step, rest) for step, rest in kept if rest)
            try:
                self._start_config(self.config.replace(**changed), plan)
            except ValueError:  # the change by hand conflicts with the plan's values at step 0
                plan = ()
            if changed or plan != self.plan:
                self._own().update(changes, plan)

    def _own(self) -> ComputedRun:
        """Makes the computed run this run's own, by branching off if others follow it."""
        computed = self._runs.own(self._computed, self, self.steps_done)
        if computed is not self._computed:
            self._computed.followers.discard(self)
            self._computed = computed
        return computed

    def advance_by(self, count: int, seconds: float = math.inf) -> None:
        advance_runs([self], count, seconds)

    def _arrive(self, position: int, was_catching_up: bool) -> None:
        """Takes up a position that has been computed."""
        self._position = position
        if was_catching_up and not self.catching_up:
            self.follow_plan()
        if self.state != "training" and not self.catching_up:
            self._computed.look(self._position)

    def follow_plan(self) -> None:
        """Makes the changes planned for the current step now, not with the next step."""
        changes = {name: value for e in self.plan if e.step == self.steps_done for name, value in e.changes.items()}
        if changes:
            with suppress(ValueError):  # invalid since a change by hand
                self._own().update(changes, self.plan)


def take_turns(runs: Sequence[LiveRun]) -> None:
    """Takes a turn of each run; those in one worker are computed together. An error ends only its run and is logged. A
    run that is busy with something else takes no step."""
    turns = [(run, count) for run in runs if (count := run.begin_turn())]
    errors: list[Exception | None]
    try:
        errors = _try_to_advance(turns, TURN, wait=False)
    except Exception as problem:  # is not of one run: the thread goes on with other runs
        errors = [problem] * len(turns)
    for (run, _), error in zip(turns, errors, strict=True):
        run.end_turn(error)


def advance_runs(runs: Sequence[LiveRun], count: int, seconds: float = math.inf) -> None:
    """Advances several runs as `BackgroundRun.advance_by` does; those in one worker are computed together.

    Raises:
        Exception: what ended one of them.
    """
    for error in _try_to_advance([(run, count) for run in runs], seconds, wait=True):
        if error is not None:
            raise error


def _try_to_advance(turns: Sequence[tuple[LiveRun, int]], seconds: float, *, wait: bool) -> list[Exception | None]:
    """Advances each run by its number of steps. Returns what ended it, if something did."""
    catching_up = [run.catching_up for run, _ in turns]
    reached = reach_together([(run._computed, run.steps_done + count) for run, count in turns], seconds, wait=wait)
    errors: list[Exception | None] = []
    for (run, _), position, was_catching_up in zip(turns, reached, catching_up, strict=True):
        error = position if isinstance(position, Exception) else None
        if not isinstance(position, Exception):
            try:
                run._arrive(position, was_catching_up)
            except Exception as problem:
                error = problem
        errors.append(error)
    return errors
