"""From router logits to expert assignments: noise, selection, capacity.

Runs that are computed together have a leading dimension; each is routed as if alone.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moe_sim.batched import Generators, drawn, number_apart
from moe_sim.config.run_config import RunConfig
from moe_sim.router.capacity import expert_capacity, reroute, seating_order, within_capacity
from moe_sim.router.scores import log_scores_of, probabilities_of, scores_of
from moe_sim.router.selection import Selection, top_choices

__all__ = ["Routing", "Select", "expert_capacity", "route"]

Select = Callable[[Tensor, Tensor, int], Selection]
"""(..., T, E) logits with noise, their scores, K → the experts of each token."""


@dataclass(frozen=True, eq=False)
class Routing:
    """Where the tokens of a batch go, and why."""

    logits: Tensor
    """(..., T, E) router logits without Gaussian noise."""
    noisy_logits: Tensor
    """(..., T, E) the logits used for selection; the same tensor if there is no noise."""
    noise_std: float | Tensor
    """σ of the Gaussian noise in `noisy_logits`, (..., T, E) if learned."""
    probs: Tensor
    """(..., T, E) the scores of `logits`, normalized over all experts: the router's preference, whose mean is the
    importance P."""
    expert_index: Tensor
    """(..., T, K) int64, the chosen experts before capacity, most preferred first. f is counted from it."""
    assigned: Tensor | None
    """(..., T, K) bool, False where a slot is empty; None if none is."""
    dispatch_index: Tensor
    """(..., T, K) int64, the expert that computes each pair; not the chosen one where overflow was rerouted."""
    combine_weights: Tensor
    """(..., T, K) the weight of each pair in the layer's output, before capacity."""
    kept: Tensor | None
    """(..., T, K) bool, False where no expert computes the pair: the slot is empty, or capacity dropped it. None if
    every pair is computed."""

    @classmethod
    def joined(cls, layers: Sequence[Self]) -> Self:
        """The routings of several layers as one, detached: (L, T, …) of a run, (R · L, T, …) of several, run by run."""
        if len(layers) == 1:
            return layers[0]
        slots = max(layer.expert_index.shape[-1] for layer in layers)  # under expert choice, layers differ in them
        logits = _joined([layer.logits for layer in layers])
        is_noisy = any(layer.noisy_logits is not layer.logits for layer in layers)
        stds = [layer.noise_std for layer in layers if isinstance(layer.noise_std, Tensor)]
        assigned = [layer.assigned for layer in layers if layer.assigned is not None]
        kept = [layer.kept for layer in layers if layer.kept is not None]
        return cls(
            logits,
            _joined([layer.noisy_logits for layer in layers]) if is_noisy else logits,
            _joined(stds) if stds else layers[0].noise_std,
            _joined([layer.probs for layer in layers]),
            _joined([layer.expert_index for layer in layers], slots),
            _joined(assigned, slots) if assigned else None,
            _joined([layer.dispatch_index for layer in layers], slots),
            _joined([layer.combine_weights for layer in layers], slots),
            _joined(kept, slots) if kept else None,
        )

    def chosen(self) -> np.ndarray:
        """(..., E) how many pairs chose each expert, before capacity."""
        return self._counts(self.expert_index, self.assigned)

    def first_chosen(self) -> np.ndarray:
        """(..., E) how many tokens have each expert as their first choice."""
        return self._counts(self.expert_index[..., :1], None if self.assigned is None else self.assigned[..., :1])

    def processed(self) -> np.ndarray:
        """(..., E) how many pairs each expert computes, after capacity."""
        return self._counts(self.dispatch_index, self.kept)

    def served(self) -> np.ndarray:
        """(..., T) bool, False for a token that no expert computes and only the residual path carries on."""
        return np.ones(self.logits.shape[:-1], dtype=bool) if self.kept is None else self.kept.any(-1).numpy()

    def _counts(self, expert: Tensor, present: Tensor | None) -> np.ndarray:
        return count_experts(expert.numpy(), None if present is None else present.numpy(), self.logits.shape[-1])


def _joined(layers: list[Tensor], slots: int | None = None) -> Tensor:
    """(..., T, x) of each layer → (... · L, T, x), padded to this many slots."""
    parts = [layer.detach() for layer in layers]
    if slots is not None:
        parts = [F.pad(part, (0, slots - part.shape[-1])) for part in parts]
    return torch.stack(parts, dim=-3).flatten(0, -3)


def count_experts(expert: np.ndarray, present: np.ndarray | None, num_experts: int) -> np.ndarray:
    """Counts how often each expert occurs.

    Args:
        expert: (..., T, K) integers.
        present: (..., T, K) bool, False for what does not count; None if everything does.
        num_experts: E.

    Returns:
        (..., E).
    """
    leading = expert.shape[:-2]
    numbered = number_apart(expert, num_experts, 2)
    counted = numbered.ravel() if present is None else numbered[present]
    return np.bincount(counted, minlength=math.prod(leading) * num_experts).reshape(*leading, num_experts)


def top_k_of_logits(logits: Tensor, probs: Tensor, top_k: int) -> Selection:
    """The router's own preference: the K largest logits."""
    return top_choices(logits, top_k)


def route(
    logits: Tensor, config: RunConfig, select: Select = top_k_of_logits, *,
    noise: Generators | None = None, noise_std: float | Tensor = 0.0, limited: bool = True,
) -> Routing:  # fmt: skip
    """Selects experts for each token and applies the capacity limit.

    Args:
        logits: (..., T, E) router logits.
        config: gives score_function, top_k, capacity_factor, overflow, drop_order and renormalize.
        select: selects the experts, from detached tensors.
        noise: source of the Gaussian noise; None for no noise.
        noise_std: σ of that noise, a number or (..., T, E); 0 for no noise.
        limited: whether the capacity limit applies.

    Raises:
        ValueError: for a negative σ.
    """
    if (noise_std.detach().min() if isinstance(noise_std, Tensor) else noise_std) < 0:
        raise ValueError("noise_std must not be negative")
    function = config.score_function
    probs = probabilities_of(logits, function)
    noisy_logits = logits
    if noise is not None and (isinstance(noise_std, Tensor) or noise_std > 0):
        noisy_logits = logits + noise_std * drawn(_normal, noise, logits)
    else:
        noise_std = 0.0
    scores = probs if noisy_logits is logits and function == "softmax" else scores_of(noisy_logits, function)

    selection = select(noisy_logits.detach(), scores.detach(), config.top_k)
    expert_index, kept = selection.expert_index, selection.assigned
    dispatch_index = expert_index
    if limited and config.capacity_factor is not None:
        dispatch_index, kept = _apply_capacity(selection, noisy_logits.detach(), scores.detach(), config)

    if selection.weights is not None:
        weights = selection.weights
    else:
        weights = scores.gather(-1, dispatch_index)
        if config.renormalize:
            log_scores = log_scores_of(noisy_logits, function).gather(-1, dispatch_index)
            weights = _renormalized(weights, log_scores, selection.assigned)
    return Routing(
        logits, noisy_logits, noise_std, probs, expert_index, selection.assigned, dispatch_index, weights, kept
    )


def _normal(generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=generator)


def _renormalized(weights: Tensor, log_scores: Tensor, assigned: Tensor | None) -> Tensor:
    """Scales each token's combine weights to sum to 1.

    Args:
        weights: (..., T, K) the scores of the chosen experts.
        log_scores: (..., T, K) the logarithms of these scores, up to a constant per token.
        assigned: (..., T, K) bool, False where a slot is empty; None if none is.
    """
    total = (weights if assigned is None else weights * assigned).sum(-1, keepdim=True)
    numbers = torch.finfo(weights.dtype)
    scaled = weights / total.clamp_min(numbers.tiny)
    # A mechanism may choose experts so improbable that their scores underflow and have no ratio. The softmax over
    # their logarithms is the same quantity. Above this limit, what underflow loses is below rounding.
    underflows = total < numbers.tiny / numbers.eps
    if not underflows.any():
        return scaled
    present = log_scores if assigned is None else log_scores.masked_fill(~assigned, numbers.min)
    return torch.where(underflows, present.softmax(-1), scaled)


def _apply_capacity(selection: Selection, logits: Tensor, scores: Tensor, config: RunConfig) -> tuple[Tensor, Tensor]:
    """Returns the expert of each pair under the capacity limit, and which pairs are kept."""
    if config.overflow == "reroute" and logits.ndim > 2:  # pair by pair, and so run by run
        present = [None] * len(logits) if selection.assigned is None else selection.assigned
        selections = map(Selection, selection.expert_index, present)
        runs = [_apply_capacity(*run, config) for run in zip(selections, logits, scores, strict=True)]
        return torch.stack([dispatch for dispatch, _ in runs]), torch.stack([kept for _, kept in runs])

    *leading, tokens, num_experts = logits.shape
    chosen = selection.expert_index.numpy()
    capacity = expert_capacity(
        tokens=tokens, num_experts=num_experts, top_k=config.top_k, capacity_factor=config.capacity_factor or 0
    )
    assigned = np.ones(chosen.shape, bool) if selection.assigned is None else selection.assigned.numpy()
    # An expert that chose its tokens keeps the best of them, whatever their position.
    by_probability = config.drop_order == "probability" or selection.assigned is not None
    priority = scores.gather(-1, selection.expert_index).numpy() if by_probability else None
    rows = (-1, chosen.shape[-1])
    order = seating_order(assigned.reshape(rows), None if priority is None else priority.reshape(rows))
    numbered, experts = number_apart(chosen, num_experts, 2).reshape(rows), math.prod(leading) * num_experts
    kept = within_capacity(numbered, order, experts, capacity)
    if config.overflow == "reroute":
        chosen, kept = reroute(chosen, kept, order, logits.numpy(), capacity)
    return torch.from_numpy(chosen), torch.from_numpy(kept.reshape(chosen.shape))
