"""The diagnosis thresholds. Tools disagree about them, so visitors may change them; no run depends on them."""

from __future__ import annotations

import math

from moe_sim.config.knob import KnobModel, knob

GROUP = "Diagnosis thresholds"


class Thresholds(KnobModel):
    """The thresholds of `diagnosis.diagnose`. The defaults are the definitions most texts agree on.

    Raises:
        ValueError: (pydantic's ValidationError) for an unknown threshold or a value out of bounds.
    """

    collapse_share: float = knob(
        0.5,
        "Collapsed above a token share of",
        "One expert takes more than this share of the tokens. The usual definition of collapse is one half.",
        group=GROUP,
        live=True,
        ge=0.1,
        le=1,
        step=0.05,
    )
    dead_share: float = knob(
        0.1,
        "Dead below a share of",
        "In multiples of 1/E. Default 0.1; some tools call an expert dead only if it gets no tokens at all (0).",
        group=GROUP,
        live=True,
        ge=0,
        le=0.5,
        step=0.05,
    )
    healthy_low: float = knob(
        0.5,
        "Healthy from a share of",
        "Lower end of the healthy band, in multiples of 1/E.",
        group=GROUP,
        live=True,
        ge=0,
        le=1,
        step=0.05,
    )
    healthy_high: float = knob(
        2.0,
        "Healthy to a share of",
        "Upper end of the healthy band, in multiples of 1/E. NeMo's utilization ratio is this multiple; OLMo-core logs "
        "max/mean, which is 1 at balance.",
        group=GROUP,
        live=True,
        ge=1,
        le=4,
        step=0.1,
    )
    many_dropped: float = knob(
        0.2,
        "Dropping tokens above a fraction of",
        "Token choices over capacity. Large training runs aim for a few percent.",
        group=GROUP,
        live=True,
        ge=0,
        le=1,
        step=0.05,
    )
    undecided_entropy: float = knob(
        0.95,
        "Undecided above a router entropy of",
        "Above this normalized entropy, a router hardly tells tokens apart.",
        group=GROUP,
        live=True,
        ge=0.5,
        le=1,
        step=0.01,
    )
    large_logits: float = knob(
        15.0,
        "Saturated above a router logit of",
        "A gap of 15 between two logits means a probability of e⁻¹⁵ ≈ 3·10⁻⁷: hardly any gradient gets through.",
        group=GROUP,
        live=True,
        ge=5,
        le=100,
        step=1,
    )

    @property
    def healthy_ratio(self) -> float:
        """The largest max/min of a load that lies within the healthy band."""
        return self.healthy_high / max(self.healthy_low, 0.01)


def high_balance_loss(num_experts: int, top_k: int) -> float | None:
    """The load-balancing loss E·Σ f P above which it is alarming: twice its value at balance, or less where it cannot
    rise that far. At full collapse it is E/K; the threshold is at most the geometric mean of that and 1. None where
    every token goes to every expert: nothing can collapse."""
    return min(2.0, math.sqrt(num_experts / top_k)) if top_k < num_experts else None
