"""All balancing mechanisms: what each adds to the loss, and how it selects experts.

To add a mechanism, add a class and its row in `METHODS`, and its name to `RunConfig.balancing`.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from moe_sim import losses
from moe_sim.config.run_config import RunConfig
from moe_sim.router.routing import Routing, Select
from moe_sim.router.scores import ScoreFunction, scores_of
from moe_sim.router.selection import Selection, expert_choice, sinkhorn_scores, top_choices

GOLDEN_RATIO = 2_654_435_769
"""2³² divided by the golden ratio."""
RUNNING_DECAY = 0.5
"""The weight of a step in a running average, relative to the next one's. A longer memory lags behind the router: at 0.9
the load swings, and at α = 0.1 experts die."""


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
    needs_tokens: ClassVar[bool] = False
    """Whether `selector` must be told what each token is."""
    state: ClassVar[tuple[str, ...]] = ("bias",)
    """The attributes, one number for each expert, that change from step to step."""
    score_function: ScoreFunction = "softmax"
    """How the run scores experts."""

    def __init__(self, num_experts: int) -> None:
        self.bias = torch.zeros(num_experts)
        """(..., E) added to each expert's scores for selection."""

    @classmethod
    def stack(cls, mechanisms: Sequence[Self]) -> Self:
        """Returns one mechanism with the state of all along a leading dimension."""
        together = copy.copy(mechanisms[0])
        for name in cls.state:
            setattr(together, name, torch.stack([getattr(one, name) for one in mechanisms]))
        return together

    def only(self, indices: np.ndarray) -> Self:
        """Returns a stack of some mechanisms of a stack."""
        some = copy.copy(self)
        for name in self.state:
            setattr(some, name, getattr(self, name)[torch.from_numpy(indices)])
        return some

    def unstack(self, index: int, mechanism: Self) -> None:
        """Brings a mechanism of a stack up to date."""
        for name in self.state:
            setattr(mechanism, name, getattr(self, name)[index].clone())

    def select(self, logits: Tensor, scores: Tensor, top_k: int) -> Selection:
        """Selects experts from (..., T, E) logits, with noise if any, and their scores."""
        return top_choices(logits, top_k)

    def selector(self, tokens: Tensor | None) -> Select:
        """Returns `select` for a batch of these tokens, (..., T) int64, or None."""
        return self.select

    def loss(self, routing: Routing, config: RunConfig) -> Tensor | None:
        """Returns the loss that α weighs, differentiable and of shape (...); None if there is none."""
        return None

    @classmethod
    def losses(
        cls, mechanisms: Sequence[Self], layers: Sequence[Routing], config: RunConfig
    ) -> list[Tensor] | None:  # fmt: skip
        """Returns what each layer, under its mechanism, contributes to that loss, which is their mean; None if there is
        none."""
        of_layers = [mechanism.loss(routing, config) for mechanism, routing in zip(mechanisms, layers, strict=True)]
        return [loss for loss in of_layers if loss is not None] or None

    def after_step(self, load: np.ndarray, config: RunConfig) -> None:
        """Updates the mechanism from (..., E) the load of the step just taken."""

    @classmethod
    def uses(cls, config: RunConfig) -> set[str]:
        """The knobs of `PARTICULAR_KNOBS` that have an effect in this configuration."""
        return set(cls.knobs) - ({"micro_batches"} if config.balance_scope != "micro_batch" else set())

    @classmethod
    def selects(cls) -> bool:
        """Whether selection differs from the router's own top-k."""
        return cls.select is not Balancing.select


class LoadBalancing(Balancing):
    """E·Σ f·P (Fedus et al. 2021), in the configured convention and scope.

    f can be an average over steps, as when devices share their counts over a global batch (Qiu et al. 2025).
    """

    label = "load-balancing loss (Switch)"
    explanation = (
        "A loss, E·Σ f·P. f counts where tokens went, P carries the gradient: the busier an expert, the harder its "
        "probability is pushed down."
    )
    knobs = ("aux_loss_coef", "convention", "balance_scope", "micro_batches")
    state = ("bias", "average", "average_weight")

    def __init__(self, num_experts: int) -> None:
        super().__init__(num_experts)
        self.average = torch.zeros(num_experts)
        """(..., E) a sum over steps of f, each `RUNNING_DECAY` times as heavy as the next."""
        self.average_weight = torch.zeros(num_experts)
        """(..., E) the sum of their weights."""

    def loss(self, routing: Routing, config: RunConfig) -> Tensor | None:
        return _weighted_load(self._shares(routing, config), routing, config)

    @classmethod
    def losses(cls, mechanisms: Sequence[Self], layers: Sequence[Routing], config: RunConfig) -> list[Tensor] | None:
        if config.convention != "huggingface" or len(layers) == 1:
            return super().losses(mechanisms, layers, config)
        pairs = zip(mechanisms, layers, strict=True)
        shares = torch.stack([mechanism._shares(routing, config) for mechanism, routing in pairs]).mean(0)
        return [_weighted_load(shares, routing, config) for routing in layers]

    def _shares(self, routing: Routing, config: RunConfig) -> Tensor:
        """f, of each group."""
        probs, expert_index = in_scope(routing.probs, config), in_scope(routing.expert_index, config)
        shares = losses.choice_shares(probs, expert_index, config.convention)
        if config.balance_scope != "running":
            return shares
        self._newest = shares
        return (RUNNING_DECAY * self.average + shares) / (RUNNING_DECAY * self.average_weight + 1)

    def after_step(self, load: np.ndarray, config: RunConfig) -> None:
        if config.balance_scope == "running":
            self.average = RUNNING_DECAY * self.average + self._newest
            self.average_weight = RUNNING_DECAY * self.average_weight + 1


class Importance(Balancing):
    """CV² of the importance (Shazeer et al. 2017)."""

    label = "importance loss (CV²)"
    explanation = (
        "A loss, the squared coefficient of variation of P. It evens out the router's preferences and ignores where "
        "tokens actually went."
    )
    knobs = ("aux_loss_coef", "balance_scope", "micro_batches")

    def loss(self, routing: Routing, config: RunConfig) -> Tensor:
        return _mean_over_scopes(losses.importance_each(in_scope(routing.probs, config)), config)


class Load(Balancing):
    """CV² of the smooth load under Gaussian noise (Shazeer et al. 2017, V-MoE)."""

    label = "load loss (smooth)"
    explanation = (
        "A loss, CV² of a smooth load: the probability that an expert is chosen if its noise is redrawn. Unlike a "
        "count, this has a gradient, but it needs Gaussian noise, which this mechanism adds."
    )
    knobs = ("aux_loss_coef", "balance_scope", "micro_batches")
    needs_gaussian_noise = True

    def loss(self, routing: Routing, config: RunConfig) -> Tensor | None:
        if not isinstance(routing.noise_std, Tensor) and routing.noise_std == 0:
            return None
        std = routing.noise_std
        std = in_scope(std, config) if isinstance(std, Tensor) else std
        logits, noisy = in_scope(routing.logits, config), in_scope(routing.noisy_logits, config)
        return _mean_over_scopes(losses.load_each(logits, noisy, std, config.top_k), config)


class ImportanceAndLoad(Load):
    """The mean of both losses of Shazeer et al., as in V-MoE (Riquelme et al. 2021)."""

    label = "importance and load loss (V-MoE)"
    explanation = (
        "A loss, the mean of two: CV² of P evens out the router's preferences, CV² of the smooth load evens out the "
        "resulting choices. It adds the Gaussian noise that the second one needs."
    )

    def loss(self, routing: Routing, config: RunConfig) -> Tensor:
        importance = Importance.loss(self, routing, config)  # type: ignore[arg-type]
        load = super().loss(routing, config)
        return importance / 2 if load is None else (importance + load) / 2


class SelectionBias(LoadBalancing):
    """b_i += rate · e_i, added to the scores for selection only (Wang et al. 2024, DeepSeek-V3). e_i is the sign of
    1 − E · load_i, or, for a proportional update, this difference itself.

    Afterwards the biases are centred: only their differences select, and where more experts rise than fall they would
    drift by rate · (n₊ − n₋) / E a step.

    With a balance scope narrower than the batch, the load-balancing loss of that scope is added, as DeepSeek-V3 adds a
    tiny one of each sequence.
    """

    label = "selection bias (no loss)"
    explanation = (
        "No loss and no gradient: each expert has a bias that is added to its probability for selection only. After "
        "every step it rises for experts below the mean load and falls for those above."
    )
    knobs = ("bias_rate", "bias_update", "balance_scope", "micro_batches")

    def select(self, logits: Tensor, scores: Tensor, top_k: int) -> Selection:
        # In double precision: in single precision, small probabilities underflow to 0 and tie.
        return top_choices(scores_of(logits.double(), self.score_function) + self.bias.unsqueeze(-2), top_k)

    @classmethod
    def uses(cls, config: RunConfig) -> set[str]:
        return super().uses(config) | ({"aux_loss_coef", "convention"} if config.balance_groups > 1 else set())

    def loss(self, routing: Routing, config: RunConfig) -> Tensor | None:
        return super().loss(routing, config) if config.balance_groups > 1 else None

    @classmethod
    def losses(cls, mechanisms: Sequence[Self], layers: Sequence[Routing], config: RunConfig) -> list[Tensor] | None:
        return super().losses(mechanisms, layers, config) if config.balance_groups > 1 else None

    def after_step(self, load: np.ndarray, config: RunConfig) -> None:
        # Rounded, because an even share may differ from 1/E in the last digit.
        direction = np.round(1 - load * load.shape[-1], 9)
        if config.bias_update == "sign":
            direction = np.sign(direction)
        moved = self.bias + config.bias_rate * torch.from_numpy(direction.astype(np.float32))
        self.bias = moved - moved.mean(-1, keepdim=True)


class ExpertChoice(Balancing):
    """Each expert picks its tokens (Zhou et al. 2022)."""

    label = "expert choice"
    explanation = (
        "No loss: the experts choose. Each takes the T·K/E tokens with the highest probability for it, so the load is "
        "even by construction. A token may get several experts, or none. It needs a whole batch, which a token in "
        "inference does not have."
    )
    looks_at_batch = True

    def select(self, logits: Tensor, scores: Tensor, top_k: int) -> Selection:
        return expert_choice(scores, top_k)


class Sinkhorn(Balancing):
    """Selection from a doubly normalized score matrix; the combine weight stays the raw probability."""

    label = "Sinkhorn selection"
    explanation = (
        "No loss: experts are selected from scores whose rows and columns are scaled in turn until every expert is "
        "equally popular. The weight of the chosen expert stays its raw probability. It needs a whole batch."
    )
    looks_at_batch = True

    def select(self, logits: Tensor, scores: Tensor, top_k: int) -> Selection:
        return top_choices(sinkhorn_scores(logits), top_k)


class Hash(Balancing):
    """A fixed map from token to expert (Roller et al. 2021); the chosen experts are averaged."""

    label = "hash routing (nothing learned)"
    explanation = (
        "Nothing chooses: a fixed hash of the token names its experts, which are averaged. For text the token is its "
        "character; a token of the topics task never comes twice, so its expert is as good as drawn. The router learns "
        "nothing. It is the baseline that a learned and balanced router must beat."
    )
    needs_tokens = True

    def selector(self, tokens: Tensor | None) -> Select:
        return partial(self.select, tokens=tokens)

    def select(self, logits: Tensor, scores: Tensor, top_k: int, tokens: Tensor | None = None) -> Selection:
        """
        Args:
            tokens: (..., T) int64, what each token is; None for its position.
        """
        if tokens is None:
            tokens = torch.arange(logits.shape[-2]).expand(logits.shape[:-1])
        first = (tokens * GOLDEN_RATIO >> 16) % logits.shape[-1]  # multiplicative hashing (Knuth 1973, section 6.4)
        experts = (first.unsqueeze(-1) + torch.arange(top_k)) % logits.shape[-1]
        return Selection(experts, weights=torch.full(experts.shape, 1 / top_k, dtype=scores.dtype))


def in_scope(values: Tensor, config: RunConfig) -> Tensor:
    """(..., T, x) → (..., G, T / G, x), each group of tokens that a loss is computed of by itself; unchanged if that is
    the batch."""
    return values if config.balance_groups == 1 else values.unflatten(-2, (config.balance_groups, -1))


def _weighted_load(shares: Tensor, routing: Routing, config: RunConfig) -> Tensor:
    return _mean_over_scopes(losses.weighted_load(shares, in_scope(routing.probs, config)), config)


def _mean_over_scopes(loss: Tensor, config: RunConfig) -> Tensor:
    """(..., G) or (...) → (...)."""
    return loss if config.balance_groups == 1 else loss.mean(-1)


METHODS: dict[str, type[Balancing]] = {
    "load_balancing": LoadBalancing,
    "importance": Importance,
    "load": Load,
    "importance_and_load": ImportanceAndLoad,
    "bias": SelectionBias,
    "expert_choice": ExpertChoice,
    "sinkhorn": Sinkhorn,
    "hash": Hash,
    "none": Balancing,
}
"""Every mechanism by its name in `RunConfig.balancing`."""

PARTICULAR_KNOBS = frozenset(knob for method in METHODS.values() for knob in method.knobs)
"""Knobs that only some mechanisms use."""
