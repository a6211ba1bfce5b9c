"""Which experts a token is sent to: pure functions from scores to choices.

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
"""Nats. Logits this far below a token's best one are taken to be that far: e^−300 keeps every sum above 0."""


@dataclass(frozen=True)
class Selection:
    """The experts chosen for each token, before capacity."""

    expert_index: Tensor
    """(T, K) int64, the preferred expert first."""
    assigned: Tensor | None = None
    """(T, K) bool, False where a slot is empty: where experts choose, tokens have different numbers of them. None: no
    slot is empty."""


def top_choices(scores: Tensor, top_k: int) -> Selection:
    """The K experts of highest score for each token.

    Args:
        scores: (T, E). Logits rather than probabilities, which underflow to 0 and tie where a router is confident.
        top_k: K.
    """
    return Selection(scores.topk(top_k, dim=1).indices)


def expert_choice(scores: Tensor, top_k: int) -> Selection:
    """Each expert picks its ⌈T·K/E⌉ best tokens (Zhou et al. 2022). A token may get no expert, or many.

    Args:
        scores: (T, E), comparable between the tokens of one expert: probabilities over a token's experts.
        top_k: K, how many experts a token has on average.

    Returns:
        As many slots as the most wanted token has experts, those of highest score first; the others are empty.
    """
    tokens, num_experts = scores.shape
    picks = math.ceil(Fraction(tokens * top_k, num_experts))
    chosen_TE = np.zeros((tokens, num_experts), dtype=bool)
    # Among equals the earlier token, whatever topk would take: with a confident router many scores are 0.
    order_TE = np.argsort(-scores.numpy(), axis=0, kind="stable")[:picks]
    np.put_along_axis(chosen_TE, order_TE, True, axis=0)
    slots = max(1, int(chosen_TE.sum(1).max()))
    ranked = np.argsort(np.where(chosen_TE, -scores.numpy(), np.inf), axis=1, kind="stable")[:, :slots]
    return Selection(torch.from_numpy(ranked), torch.from_numpy(np.take_along_axis(chosen_TE, ranked, axis=1)))


def sinkhorn_scores(logits: Tensor, iterations: int = SINKHORN_ITERATIONS) -> Tensor:
    """exp(z), its rows and columns scaled in turn so that every token has the same total, 1/T, and every expert, 1/E
    (Sinkhorn & Knopp 1967; as a router in Megatron-LM, after BASE layers, Lewis et al. 2021).

    Args:
        logits: (T, E).
        iterations: how often rows and then columns are scaled.

    Returns:
        (T, E) float64; after the last scaling the columns are exact and the rows nearly.
    """
    tokens, num_experts = logits.shape
    exact = logits.numpy().astype(np.float64)
    matrix = np.exp(np.maximum(exact - exact.max(1, keepdims=True), -LARGEST_GAP))
    column = np.ones(num_experts)
    for _ in range(iterations):
        row = 1 / (tokens * (matrix @ column))
        column = 1 / (num_experts * (row @ matrix))
    return torch.from_numpy(row[:, None] * matrix * column)
