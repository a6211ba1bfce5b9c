"""Runners compute a run: a trainer follows a plan and reports its progress, in this process or in another."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Mapping, Sequence
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
from moe_sim.trainer.together import Together, most_together, shape_of, stepping
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
        self._can_be_made_again = trainer is None and config.own_text is None
        # Whoever refers to a visitor's own text keeps it.
        self._made = trainer if trainer or self._can_be_made_again else Trainer(config, Outbox(config))
        self._config, self._plan = config, plan
        self.company: Company | None = None
        """The runs that it is computed with, as long as they stay stacked."""
        self.error: Exception | None = None
        """What ended it. It is raised after the steps before it are reported."""
        self._probes: list[Probe] = []
        self._snapshots: dict[int, Trainer] = {}

    @property
    def steps_done(self) -> int:
        return self._made.steps_done if self._made else 0

    @property
    def config(self) -> RunConfig:
        """The current configuration."""
        return self._made.config if self._made else self._config

    @property
    def diverged(self) -> bool:
        """Whether it has diverged."""
        return self._made is not None and self._made.diverged

    @property
    def trainer(self) -> Trainer:
        """Its trainer, up to date, to be read or changed: the run leaves its company."""
        self.leave()
        return self._trainer

    def leave(self) -> None:
        """Parts its company, if it is in one."""
        if self.company is not None:
            self.company.part()

    @property
    def _trainer(self) -> Trainer:
        """Its trainer, which may be out of date."""
        if self._made is None:
            self._made = Trainer(self._config, Outbox(self._config))
        return self._made

    def advance(self, steps: int, seconds: float, *, keep: bool) -> Progress:
        [result] = take_turns([Turn(self, steps, seconds, keep)])
        return unwrapped(result)

    def update(self, changes: Mapping[str, Any], plan: tuple[Event, ...]) -> Progress:
        self._can_be_made_again = False
        self.trainer.update(**changes)
        self._plan = plan
        self._snapshots.clear()
        return self.look()

    def look(self) -> Progress:
        if not self.diverged:
            self._probes.append(self.trainer.probe())
        progress = self.progress()
        if self._can_be_made_again and self.steps_done == 0:
            self._made = None  # takes memory from the first step on: many pages are opened, and never train
        return progress

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
        now = self.steps_done
        for event in self._plan:
            if event.step == now:
                self._can_be_made_again = False
                try:
                    self.trainer.update(**event.changes)
                except ValueError as error:  # invalid since a change by hand
                    log.warning("Skipped the change planned at step %d: %s", event.step, error)
        return min((event.step - now for event in self._plan if event.step > now), default=MOST_STEPS)

    def look_is_due(self) -> bool:
        """Whether the step just taken is one of those after which it probes the routing."""
        return self.steps_done <= EARLY or self.steps_done % PROBE_EVERY == 0

    def look_after_step(self, keep: bool) -> None:
        """Probes the routing of the trainer, which has been settled; with `keep`, may keep a snapshot."""
        self._probes.append(self._trainer.probe())
        if keep and self.steps_done % SNAPSHOT_EVERY == 0:
            self._keep_snapshot()

    def progress(self) -> Progress:
        """What it has done since the last call."""
        outbox = self._trainer.history
        assert isinstance(outbox, Outbox)
        (rows, events), probes = outbox.take(), tuple(self._probes)
        self._probes.clear()
        return Progress(self.steps_done, self.diverged, rows, events, probes)

    def _keep_snapshot(self) -> None:
        size = 3 * sum(p.numel() * p.element_size() for p in self._trainer.network.parameters())
        if (len(self._snapshots) + 1) * size <= SNAPSHOT_BYTES:
            self._snapshots[self.steps_done] = self._trainer.copy(Outbox(self._config, self.steps_done))


class Company:
    """Runs that are computed together, turn after turn. Stacking them takes as long as half a step, so they stay
    stacked until one of them is wanted alone or in other company."""

    def __init__(self, runners: Sequence[LocalRunner]) -> None:
        self.runners = tuple(runners)
        self.together = Together([runner.trainer for runner in runners])
        for runner in runners:
            runner.company = self

    def part(self) -> None:
        """Brings all trainers up to date; each run is alone again."""
        self.together.release()
        for runner in self.runners:
            runner.company = None


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
        runner = self.runner
        return self.steps > 0 and runner.error is None and not runner.diverged and time.monotonic() < self.end


def take_turns(turns: Sequence[Turn]) -> list[Progress | Exception]:
    """Advances several runs; those of one shape are computed together.

    Returns:
        The progress of each, or the error that had ended it in an earlier turn.
    """
    return Workshop(0).take_turns(turns)


class Workshop:
    """Advances runs, those of one shape together.

    Args:
        kept: how many companies stay stacked between turns, those that were computed last.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._companies: list[Company] = []

    def take_turns(self, turns: Sequence[Turn]) -> list[Progress | Exception]:
        """As the function does."""
        failed = {id(turn): turn.runner.error for turn in turns}
        waiting = [turn for turn in turns if turn.is_open]
        while waiting:
            group = _next_group(waiting)
            try:
                self._advance(group)
            except Exception as error:
                if len(group) == 1:
                    group[0].runner.error = error
                for turn in group:
                    turn.alone = True
            waiting = [turn for turn in waiting if turn.is_open]
        self._part_surplus()
        return [failed[id(turn)] or turn.runner.progress() for turn in turns]

    def _part_surplus(self) -> None:
        """Parts all companies but the last ones."""
        together = [company for company in self._companies if company.runners[0].company is company]
        surplus = max(0, len(together) - self._kept)
        for company in together[:surplus]:
            company.part()
        self._companies = together[surplus:]

    def _company_of(self, runners: list[LocalRunner]) -> Company:
        company = runners[0].company
        if company is None or {*company.runners} != {*runners}:
            company = Company(runners)
        self._companies = [one for one in self._companies if one is not company] + [company]
        return company

    def _advance(self, group: list[Turn]) -> None:
        """Takes steps until one of the runs has all of its own, has a planned change, or is out of time."""
        now, shares = time.monotonic(), min(len(group), MOST_SHARES)
        for turn in group:
            turn.end = min(turn.end, now + turn.seconds * shares)
        steps = min(min(turn.steps, turn.until_change) for turn in group)
        company = self._company_of([turn.runner for turn in group])
        turns = {id(turn.runner._trainer): turn for turn in group}
        try:
            with closing(self._stepping(company, steps)) as taken:
                for together in taken:
                    for index, trainer in enumerate(together.trainers):
                        turn = turns[id(trainer)]
                        turn.steps -= 1
                        if turn.runner.look_is_due():
                            together.settle(index)
                            turn.runner.look_after_step(turn.keep)
                    if time.monotonic() >= group[0].end:
                        break
        except Exception:
            company.part()
            raise

    def _stepping(self, company: Company, steps: int) -> Generator[Together]:
        """Takes steps and yields who took them. If all cannot take the next one together, their company ends there."""
        while steps and company.together.step():
            steps -= 1
            yield company.together
        if steps:
            company.part()
            with closing(stepping(company.together.trainers, 1)) as taken:
                yield from taken


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
    first = waiting[0].runner.config
    alike = [turn for turn in waiting if shape_of(turn.runner.config) == shape_of(first) and not turn.alone]
    return alike[: most_together(first)]
