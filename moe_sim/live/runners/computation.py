"""A run that a process computes: a trainer that follows a plan, and its reports."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.limits import MOST_STEPS
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.live.runners.runner import Progress
from moe_sim.trainer.prompting import Prompt, answer
from moe_sim.trainer.trainer import Trainer

if TYPE_CHECKING:
    from moe_sim.live.runners.workshop import Company

PROBE_EVERY = 10
"""Steps between probes of the routing."""
EARLY = 30
"""Each of the first steps is probed: here visitors go step by step."""
SNAPSHOT_EVERY = 100
"""Steps between snapshots of the trainer, if they are kept."""
SNAPSHOT_BYTES = 32_000_000
"""Memory limit for the snapshots of one run."""

log = logging.getLogger(__name__)


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


class Computation:
    """A run that this process computes: its trainer, its plan, and what it has to report. What takes its steps is in
    moe_sim.live.runners.workshop."""

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

    def copy(self, step: int, plan: tuple[Event, ...]) -> Self:
        available: dict[int, Trainer | None] = {0: None, **self._snapshots, self.steps_done: self.trainer}
        nearest = max(at for at in available if at <= step)
        original = available[nearest]
        trainer = None if original is None else original.copy(Outbox(self._config, nearest))
        return type(self)(self._config, plan, trainer)

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
