"""Scores: what router logits say about each expert.

softmax: the experts compete, and the scores of a token sum to 1 (Shazeer et al. 2017). sigmoid: each expert is scored
by itself (DeepSeek-V3, DeepSeek-AI 2024, eq. 15).

T tokens, E experts.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from moe_sim.batched import softmax

ScoreFunction = Literal["softmax", "sigmoid"]


def scores_of(logits: Tensor, function: ScoreFunction) -> Tensor:
    """(..., T, E) logits → (..., T, E) scores from 0 to 1, which select experts and weigh their outputs."""
    return softmax(logits) if function == "softmax" else logits.sigmoid()


def probabilities_of(logits: Tensor, function: ScoreFunction) -> Tensor:
    """(..., T, E) logits → (..., T, E) scores divided by their sum over all experts, whose mean is P.

    Sigmoid scores that did not sum to 1 would let the router lower the loss by shrinking them all.
    """
    return softmax(log_scores_of(logits, function))


def log_scores_of(logits: Tensor, function: ScoreFunction) -> Tensor:
    """(..., T, E) logits → the logarithms of their scores, up to a constant per token. They do not underflow."""
    return logits if function == "softmax" else F.logsigmoid(logits)
