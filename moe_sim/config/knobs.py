"""The knobs of `RunConfig` and the fields of `Thresholds` as data, for display, parsing and checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds


@dataclass(frozen=True)
class Knob:
    """One field of a model: its label, help, bounds and choices."""

    name: str
    label: str
    help: str
    group: str
    live: bool
    default: Any
    kind: type
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    stops: tuple[Any, ...] = ()
    step: float | None = None
    task: str | None = None
    """The only task that uses the knob; None if every task does."""
    optional: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values, worded to follow “must be”."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "on or off"
        if self.kind is str:
            return "two different experts such as 1-3, or off"
        number = "a whole number" if self.kind is int else "a number"
        return f"{number} from {self.minimum:g} to {self.maximum:.10g}" + (", or off" if self.optional else "")


def _read_knobs(model: type[BaseModel]) -> dict[str, Knob]:
    knobs = {}
    for name, field in model.model_fields.items():
        types = get_args(field.annotation) or (field.annotation,)
        limits = {key: getattr(item, key) for item in field.metadata for key in ("ge", "le") if hasattr(item, key)}
        literal = all(isinstance(item, str) for item in types)
        extra: Any = field.json_schema_extra
        knobs[name] = Knob(
            name=name, help=field.description or "", default=field.default,
            kind=str if literal else types[0], choices=types if literal else (),
            minimum=limits.get("ge"), maximum=limits.get("le"), optional=NoneType in types, **extra,
        )  # fmt: skip
    return knobs


KNOBS: dict[str, Knob] = _read_knobs(RunConfig)
"""Every knob by name, in the order of `RunConfig`."""

THRESHOLDS: dict[str, Knob] = _read_knobs(Thresholds)
"""Every diagnosis threshold by name."""


def problems(error: ValidationError) -> dict[str, str]:
    """Returns one sentence per invalid value of a failed `RunConfig(...)` or `Thresholds(...)`, by field name."""
    sentences = {}
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else item.get("ctx", {}).get("knob", "configuration")
        knob = KNOBS.get(name) or THRESHOLDS.get(name)
        if item["type"] == "knobs":
            sentences[name] = item["msg"]
        elif knob is None:
            sentences[name] = f"There is no knob named {name[:40]!r}."
        else:
            sentences[name] = f"{knob.label} ({name}) must be {knob.allowed}, not {str(item['input'])[:40]!r}."
    return sentences


def live_changes(config: RunConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those changes that differ from the current values.

    Raises:
        ValueError: for an unknown or structural knob, which the message names, or an invalid value.
    """
    for name in changes:
        if name not in KNOBS:
            raise ValueError(f"there is no knob named {name!r}")
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
    """A knob's name for tight spaces: the short one if there is one, else its label."""
    return SHORT_NAMES.get(name, KNOBS[name].label)
