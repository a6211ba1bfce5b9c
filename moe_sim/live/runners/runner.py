"""What computes a run, in this process or in another, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from moe_sim.config.events import Event
from moe_sim.history.probe import Probe
from moe_sim.trainer.prompting import Prompt


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


def unwrapped(result: Progress | Exception) -> Progress:
    """The progress; raises the error if it is one."""
    if isinstance(result, Exception):
        raise result
    return result
