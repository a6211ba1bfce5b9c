"""The input of a figure: one run at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.history import History
from moe_sim.history.layer import Layer
from moe_sim.history.probe import LayerProbe, Probe
from moe_sim.tasks.task import HeldOut, Task


@dataclass(frozen=True)
class Scene:
    """The state of a run at one moment, with the layer that its figures show."""

    run: History
    config: RunConfig
    routing: Probe
    task: Task
    thresholds: Thresholds = field(default_factory=Thresholds)
    layer: int | None = None
    """Counted from 0; None for all layers."""

    @property
    def history(self) -> Layer:
        """The columns of the layer."""
        return self.run.layer(self.layer)

    @property
    def probe(self) -> LayerProbe:
        """The routing in the layer; of all layers, in the one whose busiest expert has the most tokens."""
        return self.routing.layer(self.probed_layer)

    @property
    def probed_layer(self) -> int:
        """The layer of `probe`."""
        return self.run.most_uneven_layer() if self.layer is None else self.layer

    @property
    def layer_in_words(self) -> str:
        """“layer 2 of 3”, “mean of 3 layers”."""
        layers = self.run.num_layers
        return f"mean of {layers} layers" if self.layer is None else f"layer {self.layer + 1} of {layers}"

    @property
    def held_out(self) -> HeldOut:
        """The tokens of the routing map."""
        return self.task.held_out

    @property
    def started(self) -> bool:
        """Whether the run has done a step."""
        return len(self.run) > 0
