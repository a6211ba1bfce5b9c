"""What a figure is drawn from: one run at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.tasks.task import HeldOut, Task


@dataclass(frozen=True)
class Scene:
    """All that there is to draw of a run at one moment."""

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
        """Whether there is a step to show."""
        return len(self.history) > 0
