"""Expert selection: pure functions from scores to choices.

Scores may have leading dimensions, as when several runs are computed together; each index there is a batch of its own.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

SINKHORN_ITERATIONS = 20
LARGEST_GAP = 300.0
"""Nats. Logits further than this below a token's best one are clamped: e^−300 keeps every sum above 0."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The experts chosen for each token, before capacity."""

    expert_index: Tensor
    """(..., T, K) int64, the preferred expert first."""
    assigned: Tensor | None = None
    """(..., T, K) bool, False where a slot is empty: under expert choice, tokens have different numbers of experts.
    None if no slot is."""
    weights: Tensor | None = None
    """(..., T, K) the combine weights; None if they come from the router's scores."""


def top_choices(scores: Tensor, top_k: int) -> Selection:
    """Selects the K highest-scoring experts of each token.

    Args:
        scores: (..., T, E). Prefer logits to probabilities, which underflow to 0 and tie if the router is confident.
        top_k: K.
    """
    if top_k == 1:  # three times as fast
        return Selection(scores.max(-1, keepdim=True).indices)
    return Selection(scores.topk(top_k, dim=-1).indices)


def expert_choice(scores: Tensor, top_k: int) -> Selection:
    """Each expert picks its ⌈T·K/E⌉ best tokens (Zhou et al. 2022). A token may get no expert, or many.

    Args:
        scores: (..., T, E), comparable between tokens, such as each token's probabilities.
        top_k: K, the mean number of experts per token.

    Returns:
        As many slots as any token has experts, highest score first; unused slots are empty.
    """
    tokens, num_experts = scores.shape[-2:]
    picks = math.ceil(Fraction(tokens * top_k, num_experts))
    chosen_TE = np.zeros(scores.shape, dtype=bool)
    # Ties go to the earlier token, which topk does not guarantee: with a confident router many scores are 0.
    order_TE = np.argsort(-scores.numpy(), axis=-2, kind="stable")[..., :picks, :]
    np.put_along_axis(chosen_TE, order_TE, True, axis=-2)
    slots = max(1, int(chosen_TE.sum(-1).max()))
    ranked = np.argsort(np.where(chosen_TE, -scores.numpy(), np.inf), axis=-1, kind="stable")[..., :slots]
    return Selection(torch.from_numpy(ranked), torch.from_numpy(np.take_along_axis(chosen_TE, ranked, axis=-1)))


def sinkhorn_scores(logits: Tensor, iterations: int = SINKHORN_ITERATIONS) -> Tensor:
    """exp(z) with rows and columns scaled in turn, so that every token has the same total, 1/T, and every expert, 1/E
    (Sinkhorn & Knopp 1967; as a router S-BASE, Clark et al. 2022; also in Megatron-LM).

    Args:
        logits: (..., T, E).
        iterations: how often rows and then columns are scaled.

    Returns:
        (..., T, E) float64; columns are exact after the last scaling, rows nearly so.
    """
    if logits.ndim > 2:
        return torch.stack([sinkhorn_scores(one, iterations) for one in logits])
    tokens, num_experts = logits.shape
    exact = logits.numpy().astype(np.float64)
    matrix = np.exp(np.maximum(exact - exact.max(1, keepdims=True), -LARGEST_GAP))
    column = np.ones(num_experts)
    for _ in range(iterations):
        row = 1 / (tokens * (matrix @ column))
        column = 1 / (num_experts * (row @ matrix))
    return torch.from_numpy(row[:, None] * matrix * column)
