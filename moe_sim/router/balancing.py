"""All balancing mechanisms: what each adds to the loss, and how it selects experts.

To add a mechanism, add a class and its row in `METHODS`, and its name to `RunConfig.balancing`.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from moe_sim import losses
from moe_sim.batched import softmax
from moe_sim.config.run_config import RunConfig
from moe_sim.router.routing import Routing
from moe_sim.router.selection import Selection, expert_choice, sinkhorn_scores, top_choices


class Balancing:
    """The mechanism of one run, or of several that are computed together: these are the leading dimension of all
    shapes. This base class is the mechanism “none”; subclasses override what they change."""

    label: ClassVar[str] = "none"
    explanation: ClassVar[str] = "Nothing balances: the router follows the task alone."
    knobs: ClassVar[tuple[str, ...]] = ()
    """The knobs that this mechanism uses and most others do not."""
    needs_gaussian_noise: ClassVar[bool] = False
    looks_at_batch: ClassVar[bool] = False
    """Whether selection compares the tokens of a batch. In inference, where a token comes alone, the router's own top-k
    is used instead."""

    def __init__(self, num_experts: int) -> None:
        self.bias = torch.zeros(num_experts)
        """(..., E) added to each expert's scores for selection."""

    @classmethod
    def stack(cls, mechanisms: Sequence[Self]) -> Self:
        """Returns one mechanism with the state of all along a leading dimension."""
        return cls._with(torch.stack([one.bias for one in mechanisms]))

    def only(self, indices: np.ndarray) -> Self:
        """Returns a stack of some mechanisms of a stack."""
        return self._with(self.bias[torch.from_numpy(indices)])

    def unstack(self, index: int, mechanism: Self) -> None:
        """Brings a mechanism of a stack up to date."""
        mechanism.bias = self.bias[index].clone()

    @classmethod
    def _with(cls, bias: Tensor) -> Self:
        together = cls(bias.shape[-1])
        together.bias = bias
        return together

    def select(self, logits: Tensor, probs: Tensor, top_k: int) -> Selection:
        """Selects experts from (..., T, E) logits, with noise if any, and their softmax."""
        return top_choices(logits, top_k)

    def loss(self, routing: Routing, config: RunConfig) -> Tensor | None:
        """Returns the loss that α weighs, differentiable and of shape (...); None if there is none."""
        return None

    def losses(self, layers: Sequence[Routing], config: RunConfig) -> list[Tensor] | None:
        """Returns what each layer contributes to that loss, which is their mean; None if there is none."""
        of_layers = [self.loss(routing, config) for routing in layers]
        return [loss for loss in of_layers if loss is not None] or None

    def after_step(self, load: np.ndarray, config: RunConfig) -> None:
        """Updates the mechanism from (..., E) the load of the step just taken."""

    @classmethod
    def selects(cls) -> bool:
        """Whether selection differs from the router's own top-k."""
        return cls.select is not Balancing.select


class LoadBalancing(Balancing):
    """E·Σ f·P (Fedus et al. 2021), in the configured convention."""

    label = "load-balancing loss (Switch)"
    explanation = (
        "A loss, E·Σ f·P. f counts where tokens went, P carries the gradient: the busier an expert, the harder its "
        "probability is pushed down."
    )
    knobs = ("aux_loss_coef", "convention")

    def loss(self, routing: Routing, config: RunConfig) -> Tensor:
        return losses.load_balancing_each(routing.probs, routing.expert_index, config.convention)

    def losses(self, layers: Sequence[Routing], config: RunConfig) -> list[Tensor] | None:
        if config.convention != "huggingface" or len(layers) == 1:
            return super().losses(layers, config)
        return losses.lumped_load_balancing_each([(routing.probs, routing.expert_index) for routing in layers])


class Importance(Balancing):
    """CV² of the importance (Shazeer et al. 2017)."""

    label = "importance loss (CV²)"
    explanation = (
        "A loss, the squared coefficient of variation of P. It evens out the router's preferences and ignores where "
        "tokens actually went."
    )
    knobs = ("aux_loss_coef",)

    def loss(self, routing: Routing, config: RunConfig) -> Tensor:
        return losses.importance_each(routing.probs)


class Load(Balancing):
    """CV² of the smooth load under Gaussian noise (Shazeer et al. 2017, V-MoE)."""

    label = "load loss (smooth)"
    explanation = (
        "A loss, CV² of a smooth load: the probability that an expert is chosen if its noise is redrawn. Unlike a "
        "count, this has a gradient, but it needs Gaussian noise, which this mechanism adds."
    )
    knobs = ("aux_loss_coef",)
    needs_gaussian_noise = True

    def loss(self, routing: Routing, config: RunConfig) -> Tensor | None:
        if not isinstance(routing.noise_std, Tensor) and routing.noise_std == 0:
            return None
        return losses.load_each(routing.logits, routing.noisy_logits, routing.noise_std, config.top_k)


class ImportanceAndLoad(Load):
    """The mean of both losses of Shazeer et al., as in V-MoE (Riquelme et al. 2021)."""

    label = "importance and load loss (V-MoE)"
    explanation = (
        "A loss, the mean of two: CV² of P evens out the router's preferences, CV² of the smooth load evens out the "
        "resulting choices. It adds the Gaussian noise that the second one needs."
    )

    def loss(self, routing: Routing, config: RunConfig) -> Tensor:
        importance = losses.importance_each(routing.probs)
        load = super().loss(routing, config)
        return importance / 2 if load is None else (importance + load) / 2


class SelectionBias(Balancing):
    """b_i += rate · sign(mean load − load_i), added for selection only (Wang et al. 2024, DeepSeek-V3).

    As in DeepSeek's rule, the biases are not centred. Their mean moves by rate · (n₊ − n₋) / E a step, where n₊ experts
    rise and n₋ fall. Only differences between biases select, so this has no effect, and it costs little precision:
    after n steps |b| is at most n · rate, so float32 rounds a step by at most n / 2²⁴ of it.
    """

    label = "selection bias (no loss)"
    explanation = (
        "No loss and no gradient: each expert has a bias that is added to its probability for selection only. After "
        "every step it rises for experts below the mean load and falls for those above."
    )
    knobs = ("bias_rate",)

    def select(self, logits: Tensor, probs: Tensor, top_k: int) -> Selection:
        # In double precision: in single precision, small probabilities underflow to 0 and tie.
        return top_choices(softmax(logits.double()) + self.bias.unsqueeze(-2), top_k)

    def after_step(self, load: np.ndarray, config: RunConfig) -> None:
        # Rounded, because an even share may differ from 1/E in the last digit.
        direction = np.sign(np.round(1 - load * load.shape[-1], 9)).astype(np.float32)
        self.bias = self.bias + config.bias_rate * torch.from_numpy(direction)


class ExpertChoice(Balancing):
    """Each expert picks its tokens (Zhou et al. 2022)."""

    label = "expert choice"
    explanation = (
        "No loss: the experts choose. Each takes the T·K/E tokens with the highest probability for it, so the load is "
        "even by construction. A token may get several experts, or none. It needs a whole batch, which a token in "
        "inference does not have."
    )
    looks_at_batch = True

    def select(self, logits: Tensor, probs: Tensor, top_k: int) -> Selection:
        return expert_choice(probs, top_k)


class Sinkhorn(Balancing):
    """Selection from a doubly normalized score matrix; the combine weight stays the raw probability."""

    label = "Sinkhorn selection"
    explanation = (
        "No loss: experts are selected from scores whose rows and columns are scaled in turn until every expert is "
        "equally popular. The weight of the chosen expert stays its raw probability. It needs a whole batch."
    )
    looks_at_batch = True

    def select(self, logits: Tensor, probs: Tensor, top_k: int) -> Selection:
        return top_choices(sinkhorn_scores(logits), top_k)


METHODS: dict[str, type[Balancing]] = {
    "load_balancing": LoadBalancing,
    "importance": Importance,
    "load": Load,
    "importance_and_load": ImportanceAndLoad,
    "bias": SelectionBias,
    "expert_choice": ExpertChoice,
    "sinkhorn": Sinkhorn,
    "none": Balancing,
}
"""Every mechanism by its name in `RunConfig.balancing`."""

PARTICULAR_KNOBS = frozenset(knob for method in METHODS.values() for knob in method.knobs)
"""Knobs that only some mechanisms use."""
