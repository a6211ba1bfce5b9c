"""What to try when a router needs more balancing: in words, and as changes of knobs."""

from __future__ import annotations

from typing import Any, NamedTuple

from moe_sim.config.codec import format_value
from moe_sim.config.run_config import RunConfig
from moe_sim.router.balancing import METHODS

EXCESSIVE_ALPHA = 1.0
"""Ten times the upper end of the range that works here, 0.01 to 0.1."""
RESCUE_ALPHA = 0.1
"""Revives all experts of a collapsed default run in 20 to 36 steps (`python -m tests.bench causes`)."""
USUAL_BIAS_RATE = 0.01


class Remedy(NamedTuple):
    """Advice, and the changes of live knobs that follow it; none if the visitor has to decide."""

    advice: str
    changes: dict[str, Any]


def more_balancing(config: RunConfig, purpose: str = "") -> Remedy:
    """Stronger balancing that fits the mechanism."""
    if config.balancing == "bias" and config.bias_rate >= 1:
        return Remedy("The bias rate is at its maximum. Choose another mechanism.", {})
    if config.balancing == "bias":
        rate = USUAL_BIAS_RATE if config.bias_rate < USUAL_BIAS_RATE else min(1.0, _larger(config.bias_rate))
        usual = f"; {USUAL_BIAS_RATE} works here" if config.bias_rate < USUAL_BIAS_RATE else ""
        return Remedy(f"Raise the bias rate, now {format_value(config.bias_rate)}{usual}.", {"bias_rate": rate})
    if not has_loss(config):
        advice = "Choose the load-balancing loss with α between 0.03 and 0.1."
        return Remedy(advice, {"balancing": "load_balancing", "aux_loss_coef": RESCUE_ALPHA})
    if config.aux_loss_coef < 0.01:
        return Remedy(f"Try α between 0.03 and 0.1{purpose}.", {"aux_loss_coef": RESCUE_ALPHA})
    if config.aux_loss_coef >= EXCESSIVE_ALPHA:
        return Remedy("", {})
    alpha = _larger(config.aux_loss_coef)
    return Remedy(f"Raise α two- to threefold, to about {format_value(alpha)}.", {"aux_loss_coef": alpha})


def has_loss(config: RunConfig) -> bool:
    """Whether the mechanism has a loss that α weighs."""
    return "aux_loss_coef" in METHODS[config.balancing].knobs


def balances(config: RunConfig) -> bool:
    """Whether anything balances the load."""
    return config.balancing != "none" and (config.aux_loss_coef > 0 or not has_loss(config))


def _larger(value: float) -> float:
    return float(f"{2.5 * value:.2g}")
