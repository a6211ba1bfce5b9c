"""Ready-made situations: a configuration and what happens to it on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moe_sim.config import RunConfig
from moe_sim.history import Event


@dataclass(frozen=True)
class Preset:
    """A named starting point. `config` holds what differs from the defaults, `plan` the knobs that move on the way."""

    label: str
    description: str
    changes: dict[str, Any] = field(default_factory=dict)
    plan: tuple[Event, ...] = ()

    def config(self, seed: int = 0) -> RunConfig:
        """The whole configuration at step 0."""
        return RunConfig(seed=seed, **self.changes)


PRESETS: dict[str, Preset] = {
    "collapse": Preset("Collapse", "No balancing loss: one expert takes nearly every token within seconds."),
    "healthy": Preset("Healthy", "α = 0.03 from the start: every expert stays in use.", {"aux_loss_coef": 0.03}),
    "too-much-alpha": Preset(
        "Too much α",
        "α = 10: perfectly even, and the router no longer tells the topics apart.",
        {"aux_loss_coef": 10.0},
    ),
    "too-late": Preset(
        "Too late",
        "α is raised to 0.1 only at step 400: the experts come back, the lost steps do not.",
        plan=(Event(400, {"aux_loss_coef": 0.1}),),
    ),
    "tight-capacity": Preset(
        "Tight capacity",
        "No balancing loss but a capacity factor of 1: the cap balances by throwing tokens away.",
        {"capacity_factor": 1.0},
    ),
    "top-2": Preset("Top-2", "Two experts for each token and no balancing loss: two experts take over.", {"top_k": 2}),
    "text": Preset(
        "Text",
        "Real text in four domains, predicting the next character: who takes arithmetic?",
        {"task": "text", "aux_loss_coef": 0.01, "batch_tokens": 512, "expert_hidden_size": 48},
    ),
}
