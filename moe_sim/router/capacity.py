"""Expert capacity: how many pairs an expert takes, which ones fit, and where the overflow goes.

T tokens, E experts, K choices per token. A pair is one choice of one token. Seating is by position (earlier tokens
first, all first choices before all second ones) or by priority.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from moe_sim.batched import rank_within_group


def expert_capacity(*, tokens: int, num_experts: int, top_k: int, capacity_factor: float) -> int:
    """C = ⌈capacity_factor · T · K / E⌉, the number of pairs an expert takes per step (as in Megatron-LM).

    Raises:
        ValueError: unless all four are positive.
    """
    if min(tokens, num_experts, top_k, capacity_factor) <= 0:
        raise ValueError("tokens, num_experts, top_k and capacity_factor must be positive")
    # In exact arithmetic, with the factor as written: 1.1 · 800 / 8 is 110, not 110.00000000000001.
    return math.ceil(Fraction(str(capacity_factor)) * tokens * top_k / num_experts)


def seating_order(assigned: np.ndarray, priority: np.ndarray | None = None) -> np.ndarray:
    """Returns the pairs in seating order.

    Args:
        assigned: (T, K) bool, False where a slot is empty.
        priority: (T, K); larger values go first, ties by position (close to V-MoE's Batch Prioritized Routing,
            Riquelme et al. 2021). None: by position.

    Returns:
        (N,) indices into `array.T.ravel()`, i.e. choice by choice.
    """
    pairs = np.flatnonzero(assigned.T.ravel())
    if priority is None:
        return pairs
    return pairs[np.argsort(-priority.T.ravel()[pairs], kind="stable")]


def within_capacity(expert_index: np.ndarray, order: np.ndarray, num_experts: int, capacity: int) -> np.ndarray:
    """Returns which pairs fit when each expert takes at most `capacity` of them.

    Args:
        expert_index: (T, K) integers, the chosen experts.
        order: (N,) from `seating_order`.
        num_experts: E.
        capacity: C, pairs per expert.

    Returns:
        (T, K) bool, True where the pair is kept.
    """
    seated = expert_index.T.ravel()[order]
    kept = np.zeros(expert_index.size, dtype=bool)
    kept[order] = rank_within_group(seated, np.bincount(seated, minlength=num_experts)) < capacity
    return kept.reshape(expert_index.T.shape).T


def reroute(
    expert_index: np.ndarray, kept: np.ndarray, order: np.ndarray, scores: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reroutes the overflow: one by one in seating order, each pair goes to its token's next-best expert that has room
    and does not serve the token yet.

    Args:
        expert_index: (T, K) integers, the chosen experts.
        kept: (T, K) bool from `within_capacity`.
        order: (N,) from `seating_order`.
        scores: (T, E), higher for better experts.
        capacity: C, pairs per expert.

    Returns:
        (T, K) the expert of each pair, and (T, K) bool, False where no expert had room.
    """
    tokens, num_experts = scores.shape
    dispatch, placed = expert_index.copy(), kept.copy()
    room = (capacity - np.bincount(expert_index[kept], minlength=num_experts)).tolist()
    free_seats = sum(room)
    overflow = order[~kept.T.ravel()[order]]
    best_first = dict(zip(overflow % tokens, np.argsort(-scores[overflow % tokens], axis=1).tolist(), strict=True))
    for pair in overflow.tolist():
        if free_seats == 0:
            break
        choice, token = divmod(pair, tokens)
        serving = dispatch[token, placed[token]]
        for expert in best_first[token]:
            if room[expert] and expert not in serving:
                dispatch[token, choice], placed[token, choice] = expert, True
                room[expert] -= 1
                free_seats -= 1
                break
    return dispatch, placed
