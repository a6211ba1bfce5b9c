"""A run as far as it has been computed, shared by everyone who watches it."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from weakref import WeakSet

from moe_sim.config.errors import InvalidInput
from moe_sim.config.events import Event
from moe_sim.config.knobs import live_changes
from moe_sim.config.run_config import RunConfig
from moe_sim.history.columns import SCALARS
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.live.runners.computation import Computation
from moe_sim.live.runners.pool import Pool, WorkerLost, advance_together
from moe_sim.live.runners.runner import Progress, Runner
from moe_sim.tasks.catalogue import make_task
from moe_sim.tasks.task import Task
from moe_sim.trainer.prompting import Prompt

STEP = SCALARS.index("step")
SOON = 300
"""A run of at most this many steps moves to a worker process that has become ready; a longer one stays in place."""
MOST_LOSSES = 3
"""Worker processes that a run may lose in a row without progress."""
FLOAT_BYTES = 4


class ComputedRun:
    """Computes a run step by step, on demand. Everyone who follows the same run shares it, until they change a knob by
    hand. All methods may be called from any thread."""

    def __init__(
        self, history: History, plan: tuple[Event, ...], pool: Pool, runner: Runner | None, probes: Sequence[Probe],
        *, shared: bool = False, task: Task | None = None,
    ) -> None:  # fmt: skip
        self.history = history
        """The steps computed so far."""
        self.plan = plan
        """Planned changes of live knobs."""
        self.task = task or make_task(history.initial_config)
        self.diverged = False
        """Whether the run has diverged, so that no step can follow."""
        self.failed = False
        """Whether the computation raised an error."""
        self.is_shared = shared
        """Whether others may follow it too. A shared run changes only as planned."""
        self.recomputed: int | None = None
        """After the loss of its worker process, the number of known steps that have been computed again; else None."""
        self.followers: WeakSet[Any] = WeakSet()
        """The live runs that read it."""
        self._pool, self._runner = pool, runner
        self._probes = list(probes)
        self._losses = 0
        self._lock = threading.RLock()

    @classmethod
    def begin(
        cls, config: RunConfig, plan: tuple[Event, ...], pool: Pool, *, shared: bool = False
    ) -> ComputedRun:  # fmt: skip
        """Starts a run at step 0."""
        computed = cls(History(config), plan, pool, pool.begin(config, plan), (), shared=shared)
        computed.look(0)
        return computed

    @classmethod
    def recorded(cls, history: History, probe: Probe | None) -> ComputedRun:
        """Wraps a finished run. Without a probe, the routing map shows step 0."""
        probes = (probe,) if probe else Computation(history.initial_config).look().probes
        return cls(history, history.events, Pool(), None, probes)

    @property
    def nbytes(self) -> int:
        """Bytes of its history and, where it is trained, of the experts' weights with their gradients and moments."""
        config, copies = self.history.initial_config, 0 if self.is_recorded else 4
        weights = 2 * config.num_layers * config.num_experts * config.expert_hidden_size * self.task.width
        return self.history.nbytes + copies * weights * FLOAT_BYTES

    @property
    def is_recorded(self) -> bool:
        """Whether it is a recording: its weights are gone, so it cannot continue."""
        return self._runner is None

    @property
    def worker(self) -> int:
        """The worker that computes it; see `Runner`."""
        return self._runner.worker if self._runner else 0

    def probe(self, step: int) -> Probe:
        """Returns the newest probe of the routing after at most `step` steps."""
        probes = self._probes
        return probes[max(0, bisect_right(probes, step, key=lambda probe: probe.step) - 1)]

    def look(self, step: int) -> None:
        """Probes the routing after `step` steps, if that is the newest step and has no probe yet."""
        with self._lock:
            known = self._probes and self._probes[-1].step == step
            if step == len(self.history) and not known and not self.diverged and self._runner is not None:
                self._ask(lambda runner: runner.look())

    def prompt(self, prompt: Prompt) -> dict[str, Any]:
        """Lets the language model, as it has been computed so far, answer a prompt.

        Raises:
            InvalidInput: as `answer` in moe_sim.trainer.prompting does, or if there is no model to ask at the moment.
        """
        with self._lock:
            if self._runner is None:
                raise InvalidInput("This run was saved without its model, which cannot answer.")
            try:
                return self._runner.prompt(prompt)
            except WorkerLost:
                raise InvalidInput("The model is being computed again. Try again in a moment.") from None

    def update(self, changes: Mapping[str, Any], plan: tuple[Event, ...]) -> None:
        """Changes live knobs now and replaces the plan. Only for a run that is not shared.

        Raises:
            ValueError: as in `Trainer.update`; nothing changes then.
        """
        with self._lock:
            step = len(self.history)
            changed = live_changes(self.history.config_at(step + 1), changes)
            self.plan = plan
            if changed:
                self.history.record_event(Event(step, changed))
            self._ask(lambda runner: runner.update(self._changes_for(runner), self._course()))

    def branch(self, step: int, plan: tuple[Event, ...]) -> ComputedRun:
        """Returns an independent copy of the run as of `step`, which continues with another plan."""
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
                    twin.recomputed = 0
                    twin._runner = self._pool.begin(history.initial_config, twin._course())
            return twin

    def _course(self) -> tuple[Event, ...]:
        """All changes, made and planned."""
        made = self.history.events
        return made + tuple(e for e in self.plan if e.step >= len(self.history) and e not in made)

    def _changes_for(self, runner: Runner) -> dict[str, Any]:
        """The changes made at the newest step. Empty for a runner that has yet to repeat that step: its plan includes
        them."""
        newest = self.history.events[-1:]
        here = newest and newest[0].step == len(self.history) == runner.steps_done
        return newest[0].changes if here else {}

    def _turn(self, step: int, seconds: float) -> tuple[Runner, int, float, bool]:
        """A request to advance. After a restart or a branch, the runner first repeats the known steps."""
        assert self._runner is not None
        return self._runner, step - self._runner.steps_done, seconds, self.is_shared and len(self.followers) > 1

    def _lacks(self, step: int) -> bool:
        """Whether that step is to be computed."""
        if len(self.history) >= step or self.diverged or self._runner is None:
            return False
        if self.failed:
            raise RuntimeError("this run has already failed")
        if self._runner.worker == 0 and len(self.history) <= SOON and self._pool.processes:
            self._restart()  # no worker process was ready when this run began
        return True

    def _ask(self, request: Callable[[Runner], Progress], answer: Callable[[], Progress] | None = None) -> None:
        """Sends a request to the runner, unless its answer is there, and stores what is new. If the worker process is
        lost, restarts the run and retries."""
        while True:
            assert self._runner is not None
            if self.failed:
                raise RuntimeError("this run has already failed")
            try:
                progress = answer() if answer else request(self._runner)
            except WorkerLost:
                answer = None
                self._losses += 1
                if self._losses > MOST_LOSSES:
                    self.recomputed = None
                    raise
                self.recomputed = 0
                self._restart()
            except Exception:
                self.failed, self.recomputed = True, None
                raise
            else:
                return self._store(progress)

    def _take(self, answer: Callable[[], Progress], step: int, seconds: float) -> None:
        """Stores the answer to a request to advance, or what comes of asking again."""
        self._ask(lambda runner: advance_together([self._turn(step, seconds)])[0](), answer)

    def _restart(self) -> None:
        self._runner = self._pool.begin(self.history.initial_config, self._course())

    def _store(self, progress: Progress) -> None:
        known = len(self.history)
        if self.recomputed is not None:
            self.recomputed = progress.steps_done if progress.steps_done < known else None
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


def reach_together(
    wanted: Sequence[tuple[ComputedRun, int]], seconds: float, *, wait: bool = True
) -> list[int | Exception]:  # fmt: skip
    """Computes several runs, each up to a step, but starts no step after `seconds`. Those that are in one worker are
    computed together.

    Args:
        wait: whether to wait for runs that are busy with something else. Otherwise these take no step.

    Returns:
        For each the last step available, at most the one that was wanted; or what ended it, now or before.
    """
    steps: dict[ComputedRun, int] = {}
    for run, step in wanted:
        steps[run] = max(step, steps.get(run, 0))
    errors: dict[ComputedRun, Exception] = {}
    lacking: list[ComputedRun] = []
    with ExitStack() as locks:
        for run in sorted(steps, key=id):  # in one order everywhere
            if run._lock.acquire(blocking=wait):
                locks.callback(run._lock.release)
                try:
                    if run._lacks(steps[run]):
                        lacking.append(run)
                except Exception as error:
                    errors[run] = error
        answers = advance_together([run._turn(steps[run], seconds) for run in lacking])
        for run, answer in zip(lacking, answers, strict=True):
            try:
                run._take(answer, steps[run], seconds)
            except Exception as error:  # the others have their steps all the same
                errors[run] = error
        return [errors.get(run) or min(step, len(run.history)) for run, step in wanted]
