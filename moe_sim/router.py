"""From router logits to who goes where: noise, top-k selection, capacity.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from moe_sim.config import RunConfig


@dataclass(frozen=True)
class Routing:
    """Where a batch of tokens goes, and why."""

    logits: Tensor
    """(T, E) router logits without Gaussian noise."""
    noisy_logits: Tensor
    """(T, E) the logits that selected; the same tensor where there is no noise."""
    probs: Tensor
    """(T, E) softmax of `logits`: the router's preference, whose mean is the importance P."""
    expert_index: Tensor
    """(T, K) int64, the chosen experts, the preferred first. f is counted from it, before capacity."""
    combine_weights: Tensor
    """(T, K) the weight of each choice in the layer's output, before capacity."""
    kept: Tensor | None
    """(T, K) bool, False where capacity dropped the pair; None where there is no capacity limit."""


def route(logits: Tensor, config: RunConfig, noise: torch.Generator | None) -> Routing:
    """Choose K experts for each token.

    Args:
        logits: (T, E) router logits.
        config: its top_k, capacity_factor, drop_order, renormalize, router_noise and noise_std are obeyed.
        noise: where Gaussian noise is drawn from; None routes without noise, as in evaluation.
    """
    probs = logits.softmax(1)
    noisy_logits, noisy_probs = logits, probs
    if noise is not None and config.router_noise == "gaussian" and config.noise_std > 0:
        noisy_logits = logits + config.noise_std * torch.randn(logits.shape, generator=noise)
        noisy_probs = noisy_logits.softmax(1)

    # Choose by logits: probabilities of a confident router underflow to 0 and tie.
    expert_index = noisy_logits.detach().topk(config.top_k, dim=1).indices
    weights = noisy_probs.gather(1, expert_index)
    kept = None
    if config.capacity_factor is not None:
        tokens, num_experts = logits.shape
        capacity = expert_capacity(
            tokens=tokens, num_experts=num_experts, top_k=config.top_k, capacity_factor=config.capacity_factor
        )
        priority = weights.detach() if config.drop_order == "probability" else None
        kept = within_capacity(expert_index, num_experts, capacity, priority)
    if config.renormalize:
        weights = weights / weights.sum(1, keepdim=True)
    return Routing(logits, noisy_logits, probs, expert_index, weights, kept)


def expert_capacity(*, tokens: int, num_experts: int, top_k: int, capacity_factor: float) -> int:
    """C = ⌈capacity_factor · T · K / E⌉, how many pairs an expert takes in a step (the form of Megatron-LM).

    Raises:
        ValueError: unless all four are positive.
    """
    if min(tokens, num_experts, top_k, capacity_factor) <= 0:
        raise ValueError("tokens, num_experts, top_k and capacity_factor must be positive")
    # In exact arithmetic, with the factor as it is written: 1.1 · 800 / 8 is 110, not 110.00000000000001.
    return math.ceil(Fraction(str(capacity_factor)) * tokens * top_k / num_experts)


def within_capacity(expert_index: Tensor, num_experts: int, capacity: int, priority: Tensor | None = None) -> Tensor:
    """Which (token, choice) pairs find room when each expert takes at most `capacity` of them.

    Args:
        expert_index: (T, K) int64, the chosen experts.
        num_experts: E.
        capacity: C, pairs an expert takes.
        priority: (T, K); pairs with a larger value are seated first (V-MoE's batch-priority routing). None: by
            position, earlier tokens first and all first choices before all second choices. Ties go by position too.

    Returns:
        (T, K) bool, True where the pair is kept.
    """
    expert = expert_index.numpy().T.ravel()  # choice-major: the order of seating by position
    order = np.arange(expert.size)
    if priority is not None:
        order = np.argsort(-priority.numpy().T.ravel(), kind="stable")
    seated = expert[order]
    kept = np.empty(expert.size, dtype=bool)
    kept[order] = rank_within_expert(seated, np.bincount(seated, minlength=num_experts)) < capacity
    return torch.from_numpy(kept.reshape(expert_index.T.shape).T)


def rank_within_expert(expert: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How many earlier entries name the same expert.

    Args:
        expert: (N,) integers below 256.
        counts: (E,) how often each expert occurs in it.

    Returns:
        (N,) int64.
    """
    order = np.argsort(expert.astype(np.uint8), kind="stable")  # NumPy sorts small integers by radix
    rank = np.empty(expert.size, dtype=np.int64)
    rank[order] = np.arange(expert.size) - np.repeat(counts.cumsum() - counts, counts)
    return rank
