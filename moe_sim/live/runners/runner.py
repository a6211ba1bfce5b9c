"""Runners compute a run: a trainer follows a plan and reports its progress, in this process or in another."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.trainer.trainer import Trainer

PROBE_EVERY = 10
"""Steps between probes of the routing."""
EARLY = 30
"""Each of the first steps is probed: here visitors go step by step."""
SNAPSHOT_EVERY = 100
"""Steps between snapshots of the trainer, if they are kept."""
SNAPSHOT_BYTES = 32_000_000
"""Memory limit for the snapshots of one run."""

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
    seconds: float = 0.0
    """CPU time of the steps."""


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
        self._error: Exception | None = None
        self._probes: list[Probe] = []
        self._seconds = 0.0
        self._snapshots: dict[int, Trainer] = {}

    @property
    def steps_done(self) -> int:
        return self.trainer.steps_done

    def advance(self, steps: int, seconds: float, *, keep: bool) -> Progress:
        if self._error is not None:
            raise self._error
        trainer, end, begun = self.trainer, time.monotonic() + seconds, time.thread_time()
        target = trainer.steps_done + steps
        while trainer.steps_done < target and not trainer.diverged and time.monotonic() < end:
            self._follow_plan()
            try:
                record = trainer.step()
            except Exception as error:
                self._error = error  # raised by the next call, after the steps before it are reported
                break
            if record is None:
                break
            if trainer.steps_done <= EARLY or trainer.steps_done % PROBE_EVERY == 0:
                self._probes.append(trainer.probe())
            if keep and trainer.steps_done % SNAPSHOT_EVERY == 0:
                self._keep_snapshot()
        self._seconds = time.thread_time() - begun
        return self._progress()

    def update(self, changes: Mapping[str, Any], plan: tuple[Event, ...]) -> Progress:
        self.trainer.update(**changes)
        self._plan = plan
        self._snapshots.clear()
        return self.look()

    def look(self) -> Progress:
        if not self.trainer.diverged:
            self._probes.append(self.trainer.probe())
        return self._progress()

    def copy(self, step: int, plan: tuple[Event, ...]) -> LocalRunner:
        available: dict[int, Trainer | None] = {0: None, **self._snapshots, self.steps_done: self.trainer}
        nearest = max(at for at in available if at <= step)
        original = available[nearest]
        trainer = None if original is None else original.copy(Outbox(self._config, nearest))
        return LocalRunner(self._config, plan, trainer)

    def _follow_plan(self) -> None:
        for event in self._plan:
            if event.step == self.trainer.steps_done:
                try:
                    self.trainer.update(**event.changes)
                except ValueError as error:  # invalid since a change by hand
                    log.warning("Skipped the change planned at step %d: %s", event.step, error)

    def _keep_snapshot(self) -> None:
        size = 3 * sum(p.numel() * p.element_size() for p in self.trainer.network.parameters())
        if (len(self._snapshots) + 1) * size <= SNAPSHOT_BYTES:
            step = self.trainer.steps_done
            self._snapshots[step] = self.trainer.copy(Outbox(self._config, step))

    def _progress(self) -> Progress:
        outbox = self.trainer.history
        assert isinstance(outbox, Outbox)
        (rows, events), probes = outbox.take(), tuple(self._probes)
        self._probes.clear()
        seconds, self._seconds = self._seconds, 0.0
        return Progress(self.trainer.steps_done, self.trainer.diverged, rows, events, probes, seconds)
