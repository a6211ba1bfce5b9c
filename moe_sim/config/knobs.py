"""The knobs of `RunConfig` and the fields of `Thresholds` as data, for display, parsing and checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from moe_sim.config.knob import Knob, read_knobs
from moe_sim.config.run_config import RunConfig
from moe_sim.config.suggestions import ByName, unknown_knob
from moe_sim.config.thresholds import Thresholds

KNOBS: dict[str, Knob] = ByName("knob", read_knobs(RunConfig))
"""Every knob by name, in the order of `RunConfig`."""

THRESHOLDS: dict[str, Knob] = ByName("threshold", read_knobs(Thresholds))
"""Every diagnosis threshold by name."""


def problems(error: ValidationError) -> dict[str, str]:
    """Returns one sentence per invalid value of a failed `RunConfig(...)` or `Thresholds(...)`, by field name."""
    return {item["ctx"]["knob"]: item["msg"] for item in error.errors(include_url=False)}


def live_changes(config: RunConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those changes that differ from the current values.

    Raises:
        ValueError: for an unknown or structural knob, which the message names, or an invalid value.
    """
    for name in changes:
        if name not in KNOBS:
            raise ValueError(unknown_knob(name, KNOBS))
        if not KNOBS[name].live:
            raise ValueError(f"{name} is structural: it cannot change during a run")
    after = config.replace(**changes)
    return {name: getattr(after, name) for name in changes if getattr(after, name) != getattr(config, name)}


SHORT_NAMES = {
    "aux_loss_coef": "α", "top_k": "k", "capacity_factor": "capacity", "z_loss_coef": "z-loss",
    "learning_rate": "learning rate", "noise_std": "noise", "router_noise": "noise", "balancing": "balancing",
    "frozen": "freeze", "bias_rate": "bias rate", "frozen_experts": "freeze experts", "frozen_router": "freeze router",
    "frozen_head": "freeze head", "router_blind": "blind router", "swap_columns": "swap columns",
    "swap_weights": "swap weights",
}  # fmt: skip


def short_name(name: str) -> str:
    """A knob's name for tight spaces: the short one if there is one, else its label, as it stands inside a sentence."""
    label = KNOBS[name].label
    return SHORT_NAMES.get(name, label[0].lower() + label[1:])
