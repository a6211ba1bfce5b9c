"""What verdicts read from the smoothed load of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_sim.config.thresholds import Thresholds
from moe_sim.config.words import percent
from moe_sim.metrics import dead_experts

WAY_TO_COLLAPSE = 3 / 7
"""How far a load may go from 1/E (even) towards 1/K (all tokens on the same K experts). For E = 8 and K = 1 the limit
is one half; for two experts, where twice the uniform share is everything, it is 5/7."""


@dataclass(frozen=True)
class LoadReading:
    """A smoothed load in the terms of the thresholds."""

    busiest: int
    token_share: float
    """The busiest expert's share of the tokens."""
    dead: int
    idle: int
    """Experts below the healthy band, the dead ones included."""
    outlier: bool
    """Whether the busiest expert is above the healthy band."""
    num_experts: int
    shares: str

    @classmethod
    def of(cls, load: np.ndarray, top_k: float, thresholds: Thresholds) -> LoadReading:
        """Reads (E,) shares of the token choices, K for each token."""
        num_experts, busiest = len(load), int(load.argmax())
        return cls(
            busiest, min(1.0, float(load[busiest] * top_k)), int(dead_experts(load, thresholds.dead_share)),
            int((load * num_experts < thresholds.healthy_low).sum()),
            bool(load[busiest] > highest_healthy_load(num_experts, top_k, thresholds.healthy_high)),
            num_experts, f"shares from {percent(load.min())} to {percent(load.max())}",
        )  # fmt: skip

    @property
    def is_uneven(self) -> bool:
        """Whether an expert is outside the healthy band."""
        return bool(self.dead or self.outlier or self.idle)

    def is_collapsed(self, thresholds: Thresholds) -> bool:
        """Whether a few experts take nearly everything."""
        return (self.token_share > thresholds.collapse_share and self.outlier) or self.dead >= self.num_experts / 2

    def dead_in_words(self) -> str:
        """“2 of 8 experts are dead”."""
        if self.dead == 0:
            return "no expert is dead"
        return f"{self.dead} of {self.num_experts} experts {'is' if self.dead == 1 else 'are'} dead"

    def below_the_band(self, thresholds: Thresholds) -> str:
        """How many experts are below the healthy band, as a sentence."""
        experts = "1 expert is" if self.idle == 1 else f"{self.idle} experts are"
        return f"{experts} below the healthy band, which begins at {thresholds.healthy_low:g}/E."


def highest_healthy_load(num_experts: int, top_k: float, healthy_high: float = 2.0) -> float:
    """The load above which an expert has too much, for any E and K; balanced routing never reaches it."""
    uniform = 1 / num_experts
    return min(healthy_high * uniform, uniform + WAY_TO_COLLAPSE * (1 / top_k - uniform)) + 1e-9
