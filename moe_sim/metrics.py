"""Load statistics: pure functions on arrays whose last axis runs over experts.

`load` is f, of shape (..., E), summing to 1 over the experts: the share of (token, choice) pairs sent to each expert,
before capacity. Each function takes anything that `np.asarray` takes, and torch tensors of any type, with or without a
gradient. It returns values of shape (...): int64 for counts, else float64. A load with NaN has the metric NaN.

Each raises ValueError unless the load is shares: not negative, with a sum of 1 over the experts. Divide counts by their
sum.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMOOTHING_HORIZON = 20
"""Steps. In smoothed quantities, each new step reduces the weight of the earlier ones by 1/20."""
DEAD_SHARE = 0.1
"""An expert with less than this multiple of the even share 1/E counts as dead, unless a threshold is given."""
SUM_TOLERANCE = 0.01
"""How far shares may be from a sum of 1: bfloat16 rounds each by up to 0.4 %."""


def imbalance_ratio(load: ArrayLike, nothing: float = 0.0) -> NDArray[np.float64]:
    """max f / min f; ∞ where an expert got nothing. 1 at balance.

    Args:
        load: shares of shape (..., E).
        nothing: shares up to this count as 0; for smoothed loads, which never reach 0 (see `one_token`).
    """
    shares = _shares(load)
    lowest, highest = shares.min(-1), shares.max(-1)
    with np.errstate(over="ignore"):
        return np.divide(highest, lowest, out=np.full(lowest.shape, np.inf), where=~(lowest <= nothing))[()]


def one_token(tokens: int, top_k: int) -> float:
    """The share that one (token, choice) pair adds to the smoothed load in its step. It halves within 14 steps, so an
    expert with less than half of it has not been used for 14 steps or more."""
    return 1 / (SMOOTHING_HORIZON * tokens * top_k)


def max_violation(load: ArrayLike) -> NDArray[np.float64]:
    """max f · E − 1 (MaxVio of DeepSeek; OLMo-core's “load imbalance” is MaxVio + 1). 0 at balance."""
    shares = _shares(load)
    return shares.max(-1) * shares.shape[-1] - 1


def coefficient_of_variation(load: ArrayLike) -> NDArray[np.float64]:
    """Population standard deviation of f over its mean. 0 at balance, √(E−1) with all on one expert."""
    shares = _shares(load)
    return shares.std(-1) / shares.mean(-1)


def normalized_entropy(load: ArrayLike) -> NDArray[np.float64]:
    """−Σ f ln f / ln E, with 0·ln 0 = 0. 1 at balance, 0 with all on one expert; undefined for a single expert, which
    raises ValueError."""
    shares = _shares(load)
    if shares.shape[-1] < 2:
        raise ValueError("the entropy of a load needs at least two experts")
    return _entropy(shares) / np.log(shares.shape[-1])


def dead_experts(load: ArrayLike, threshold: float = DEAD_SHARE) -> NDArray[np.int64]:
    """The number of experts with f below threshold / E. Meant for the smoothed load. NaN, which cannot be counted,
    raises ValueError."""
    shares = _shares(load)
    if math.isnan(shares.sum()):
        raise ValueError("dead experts cannot be counted: the load has NaN")
    return (shares < threshold / shares.shape[-1]).sum(-1)


def parallel_efficiency(load: ArrayLike) -> NDArray[np.float64]:
    """mean f / max f: the fraction of device time in use when every expert has its own device."""
    shares = _shares(load)
    return shares.mean(-1) / shares.max(-1)


def normalized_mutual_information(joint: ArrayLike) -> NDArray[np.float64]:
    """Specialization: mutual information of group and expert over the entropy of the groups.

    Args:
        joint: (..., G, E) counts or shares of tokens of group g whose first choice is expert e.

    Returns:
        Shape (...), from 0 (the expert says nothing about the group) to 1 (it identifies the group); 0 for one group.

    Raises:
        ValueError: unless `joint` has two axes or more, no negative value and a positive sum.
    """
    shares = _numbers(joint)
    totals = shares.sum((-2, -1), keepdims=True) if shares.ndim > 1 else np.zeros(1)
    if totals.min(initial=1) <= 0 or shares.min(initial=0) < 0:
        raise ValueError("joint must be (..., G, E) counts or shares, not negative and with a positive sum")
    shares = shares / totals
    group, expert = shares.sum(-1), shares.sum(-2)
    pairs = shares.reshape(*shares.shape[:-2], shares.shape[-2] * shares.shape[-1])
    information = _entropy(group) + _entropy(expert) - _entropy(pairs)
    entropy = _entropy(group)
    return np.divide(np.maximum(information, 0), entropy, out=np.zeros_like(entropy), where=entropy > 0)[()]


def _entropy(share: NDArray[np.float64]) -> NDArray[np.float64]:
    # + 0.0 turns −0 into 0.
    return -(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(-1) + 0.0


def _shares(load: ArrayLike) -> NDArray[np.float64]:
    shares = _numbers(load)
    if not shares.ndim or not shares.shape[-1]:
        raise ValueError(f"load must have shape (..., E) with at least one expert, not {shares.shape}")
    # NaN compares as False, and fmax and fmin ignore it.
    if shares.ndim == 1:  # in plain Python: the recorder does this several times a step
        values = shares.tolist()
        off, lowest = abs(sum(values) - 1), min(values)
    else:
        off = np.fmax.reduce(abs(shares.sum(-1) - 1), None, initial=0)
        lowest = np.fmin.reduce(shares, None, initial=0)
    if off > SUM_TOLERANCE or lowest < 0:
        raise ValueError("load must be shares of sum 1 over the experts, not negative; divide counts by their sum")
    return shares


def _numbers(values: Any) -> NDArray[np.float64]:
    if not isinstance(values, np.ndarray) and hasattr(values, "detach"):  # a torch tensor; NumPy does not take them all
        values = values.detach().double().cpu()
    return np.asarray(values, dtype=np.float64)
