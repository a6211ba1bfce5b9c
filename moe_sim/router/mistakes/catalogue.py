"""Every mistake by its name in `RunConfig.mistake`."""

from __future__ import annotations

from moe_sim.router.mistakes.elsewhere import ConstantWeight, FirstChoicesOnly, LimitedEvaluation, NoisyEvaluation
from moe_sim.router.mistakes.in_the_loss import (
    ChosenOnly,
    Detached,
    Lumped,
    NeverAdded,
    NotDivided,
    SoftmaxTwice,
    Summed,
)
from moe_sim.router.mistakes.mistake import Mistake

MISTAKES: dict[str, type[Mistake]] = {
    "none": Mistake, "constant_weight": ConstantWeight, "softmax_twice": SoftmaxTwice, "chosen_only": ChosenOnly,
    "not_divided": NotDivided, "detached": Detached, "never_added": NeverAdded, "lumped": Lumped, "summed": Summed,
    "noisy_evaluation": NoisyEvaluation, "limited_evaluation": LimitedEvaluation,
    "first_choices_only": FirstChoicesOnly,
}  # fmt: skip
