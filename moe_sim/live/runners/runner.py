"""Runners compute a run: a trainer follows a plan and reports its progress, in this process or in another."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.limits import MOST_STEPS
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.trainer.prompting import Prompt, answer
from moe_sim.trainer.together import most_together, shape_of, stepping
from moe_sim.trainer.trainer import Trainer

PROBE_EVERY = 10
"""Steps between probes of the routing."""
EARLY = 30
"""Each of the first steps is probed: here visitors go step by step."""
SNAPSHOT_EVERY = 100
"""Steps between snapshots of the trainer, if they are kept."""
SNAPSHOT_BYTES = 32_000_000
"""Memory limit for the snapshots of one run."""
MOST_SHARES = 4
"""Runs that are computed together have the time of as many turns: of all of theirs, up to this many."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What a run has done since the last request."""

    steps_done: int
    diverged: bool
    rows: np.ndarray
    """(n, width) its steps, as from `History.rows`."""
    events: tuple[Event, ...]
    probes: tuple[Probe, ...]
    """Probes of the routing, the newest last."""


class Runner(Protocol):
    """The interface through which `ComputedRun` computes. Not thread-safe."""

    worker: int
    """The worker that computes the run: 0 for this process, else the number of a worker process."""

    @property
    def steps_done(self) -> int:
        """Number of steps so far."""
        ...

    def advance(self, steps: int, seconds: float, *, keep: bool) -> Progress:
        """Takes up to `steps` steps, but starts none after `seconds`. With `keep`, keeps snapshots for `copy`."""
        ...

    def update(self, changes: Mapping[str, Any], plan: tuple[Event, ...]) -> Progress:
        """Changes live knobs and replaces the plan."""
        ...

    def look(self) -> Progress:
        """Probes the routing as it is now."""
        ...

    def prompt(self, prompt: Prompt) -> dict[str, Any]:
        """Lets the language model, as it is now, answer a prompt; see `moe_sim.trainer.prompting.answer`."""
        ...

    def copy(self, step: int, plan: tuple[Event, ...]) -> Runner:
        """Returns an independent runner of the same run, at `step` or the nearest earlier snapshot."""
        ...


class Outbox(History):
    """A history that holds only what has not been taken yet."""

    def __init__(self, config: RunConfig, taken: int = 0) -> None:
        super().__init__(config)
        self._taken = taken

    def __len__(self) -> int:
        return self._taken + self._length

    def take(self) -> tuple[np.ndarray, tuple[Event, ...]]:
        """Removes and returns the rows and changes since the last call."""
        rows, events = self.rows(), self.events
        self._taken, self._length, self.events = len(self), 0, ()
        return rows, events


class LocalRunner:
    """Computes a run in this process."""

    worker = 0

    def __init__(self, config: RunConfig, plan: tuple[Event, ...] = (), trainer: Trainer | None = None) -> None:
        self.trainer = trainer or Trainer(config, Outbox(config))
        self._config, self._plan = config, plan
        self.error: Exception | None = None
        """What ended it. It is raised after the steps before it are reported."""
        self._probes: list[Probe] = []
        self._snapshots: dict[int, Trainer] = {}

    @property
    def steps_done(self) -> int:
        return self.trainer.steps_done

    def advance(self, steps: int, seconds: float, *, keep: bool) -> Progress:
        [result] = take_turns([Turn(self, steps, seconds, keep)])
        return unwrapped(result)

    def update(self, changes: Mapping[str, Any], plan: tuple[Event, ...]) -> Progress:
        self.trainer.update(**changes)
        self._plan = plan
        self._snapshots.clear()
        return self.look()

    def look(self) -> Progress:
        if not self.trainer.diverged:
            self._probes.append(self.trainer.probe())
        return self.progress()

    def prompt(self, prompt: Prompt) -> dict[str, Any]:
        return answer(self.trainer, prompt)

    def copy(self, step: int, plan: tuple[Event, ...]) -> LocalRunner:
        available: dict[int, Trainer | None] = {0: None, **self._snapshots, self.steps_done: self.trainer}
        nearest = max(at for at in available if at <= step)
        original = available[nearest]
        trainer = None if original is None else original.copy(Outbox(self._config, nearest))
        return LocalRunner(self._config, plan, trainer)

    def follow_plan(self) -> int:
        """Makes the changes planned for the current step. Returns the number of steps until the next ones."""
        now = self.trainer.steps_done
        for event in self._plan:
            if event.step == now:
                try:
                    self.trainer.update(**event.changes)
                except ValueError as error:  # invalid since a change by hand
                    log.warning("Skipped the change planned at step %d: %s", event.step, error)
        return min((event.step - now for event in self._plan if event.step > now), default=MOST_STEPS)

    def look_is_due(self) -> bool:
        """Whether the step just taken is one of those after which it probes the routing."""
        return self.steps_done <= EARLY or self.steps_done % PROBE_EVERY == 0

    def look_after_step(self, keep: bool) -> None:
        """Probes the routing; with `keep`, may keep a snapshot."""
        self._probes.append(self.trainer.probe())
        if keep and self.steps_done % SNAPSHOT_EVERY == 0:
            self._keep_snapshot()

    def progress(self) -> Progress:
        """What it has done since the last call."""
        outbox = self.trainer.history
        assert isinstance(outbox, Outbox)
        (rows, events), probes = outbox.take(), tuple(self._probes)
        self._probes.clear()
        return Progress(self.trainer.steps_done, self.trainer.diverged, rows, events, probes)

    def _keep_snapshot(self) -> None:
        size = 3 * sum(p.numel() * p.element_size() for p in self.trainer.network.parameters())
        if (len(self._snapshots) + 1) * size <= SNAPSHOT_BYTES:
            step = self.trainer.steps_done
            self._snapshots[step] = self.trainer.copy(Outbox(self._config, step))


@dataclass
class Turn:
    """A request to advance a run; see `Runner.advance`."""

    runner: LocalRunner
    steps: int
    seconds: float
    keep: bool
    end: float = math.inf
    """When it ends, once it has begun."""
    until_change: int = MOST_STEPS
    """Steps until the next planned change."""
    alone: bool = False
    """Whether it is computed alone, because one of its company failed."""

    @property
    def is_open(self) -> bool:
        """Whether another step may begin."""
        trainer = self.runner.trainer
        return self.steps > 0 and self.runner.error is None and not trainer.diverged and time.monotonic() < self.end


def take_turns(turns: Sequence[Turn]) -> list[Progress | Exception]:
    """Advances several runs; those of one shape are computed together.

    Returns:
        The progress of each, or the error that had ended it in an earlier turn.
    """
    failed = {id(turn): turn.runner.error for turn in turns}
    waiting = [turn for turn in turns if turn.is_open]
    while waiting:
        group = _next_group(waiting)
        try:
            _advance(group)
        except Exception as error:
            if len(group) == 1:
                group[0].runner.error = error
            for turn in group:
                turn.alone = True
        waiting = [turn for turn in waiting if turn.is_open]
    return [failed[id(turn)] or turn.runner.progress() for turn in turns]


def unwrapped(result: Progress | Exception) -> Progress:
    """The progress; raises the error if it is one."""
    if isinstance(result, Exception):
        raise result
    return result


def _next_group(waiting: list[Turn]) -> list[Turn]:
    """The first run and others of its shape."""
    for turn in waiting:
        turn.until_change = turn.runner.follow_plan()
    if waiting[0].alone:
        return waiting[:1]
    first = waiting[0].runner.trainer.config
    alike = [turn for turn in waiting if shape_of(turn.runner.trainer.config) == shape_of(first) and not turn.alone]
    return alike[: most_together(first)]


def _advance(group: list[Turn]) -> None:
    """Takes steps until one of the runs has all of its own, has a planned change, or is out of time."""
    now, shares = time.monotonic(), min(len(group), MOST_SHARES)
    for turn in group:
        turn.end = min(turn.end, now + turn.seconds * shares)
    turns = {id(turn.runner.trainer): turn for turn in group}
    steps = min(min(turn.steps, turn.until_change) for turn in group)
    with closing(stepping([turn.runner.trainer for turn in group], steps)) as taken:
        for together in taken:
            for index, trainer in enumerate(together.trainers):
                turn = turns[id(trainer)]
                turn.steps -= 1
                if turn.runner.look_is_due():
                    together.settle(index)
                    turn.runner.look_after_step(turn.keep)
            if time.monotonic() >= group[0].end:
                break
