"""The input of a figure: one run at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.tasks.task import HeldOut, Task


@dataclass(frozen=True)
class Scene:
    """The state of a run at one moment."""

    history: History
    config: RunConfig
    probe: Probe
    task: Task
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def held_out(self) -> HeldOut:
        """The tokens of the routing map."""
        return self.task.held_out

    @property
    def started(self) -> bool:
        """Whether the run has done a step."""
        return len(self.history) > 0
