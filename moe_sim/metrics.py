"""Load statistics: pure functions on arrays whose last axis runs over experts.

`load` is f, of shape (..., E), summing to 1 over the experts: the share of (token, choice) pairs that each expert is
sent, counted before capacity drops anything. Each function takes whatever `np.asarray` takes and returns float64
values of shape (...).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMOOTHING_HORIZON = 20
"""Steps: the weight of a step in a smoothed quantity falls by 1/20 with every later one."""


def imbalance_ratio(load: ArrayLike, nothing: float = 0.0) -> NDArray[np.float64]:
    """max f / min f; ∞ where an expert got nothing. 1 at balance.

    Args:
        load: shares of shape (..., E).
        nothing: a share up to this counts as nothing; for smoothed loads, which never fall to 0 (`one_token`).
    """
    shares = _array(load)
    lowest, highest = shares.min(-1), shares.max(-1)
    with np.errstate(over="ignore"):
        return np.divide(highest, lowest, out=np.full(lowest.shape, np.inf), where=lowest > nothing)[()]


def one_token(tokens: int, top_k: int) -> float:
    """What a single (token, choice) pair in one step adds to the smoothed load. An expert with less than half of it
    was last used some 14 steps ago or more, and once only."""
    return 1 / (SMOOTHING_HORIZON * tokens * top_k)


def max_violation(load: ArrayLike) -> NDArray[np.float64]:
    """max f · E − 1 (MaxVio of DeepSeek; OLMo-core's “load imbalance” is one more). 0 at balance."""
    shares = _array(load)
    return shares.max(-1) * shares.shape[-1] - 1


def coefficient_of_variation(load: ArrayLike) -> NDArray[np.float64]:
    """Population standard deviation of f over its mean. 0 at balance, √(E−1) with all on one expert."""
    shares = _array(load)
    return shares.std(-1) / shares.mean(-1)


def normalized_entropy(load: ArrayLike) -> NDArray[np.float64]:
    """−Σ f ln f / ln E, with 0·ln 0 = 0. 1 at balance, 0 with all on one expert."""
    shares = _array(load)
    return _entropy(shares) / np.log(shares.shape[-1])


def dead_experts(load: ArrayLike, threshold: float = 0.1) -> NDArray[np.int64]:
    """How many experts have f below threshold / E. Meant for the smoothed load."""
    shares = _array(load)
    return (shares < threshold / shares.shape[-1]).sum(-1)


def parallel_efficiency(load: ArrayLike) -> NDArray[np.float64]:
    """mean f / max f: how much of the devices' time is used when every expert has a device of its own."""
    shares = _array(load)
    return shares.mean(-1) / shares.max(-1)


def normalized_mutual_information(joint: ArrayLike) -> NDArray[np.float64]:
    """Specialization: mutual information of group and expert over the entropy of the groups.

    Args:
        joint: (..., G, E) counts or shares of tokens of group g whose first choice is expert e.

    Returns:
        Shape (...), from 0 (the expert says nothing of the group) to 1 (it tells the group); 0 with one group only.
    """
    shares = _array(joint)
    shares = shares / shares.sum((-2, -1), keepdims=True)
    group, expert = shares.sum(-1), shares.sum(-2)
    information = _entropy(group) + _entropy(expert) - _entropy(shares.reshape(*shares.shape[:-2], -1))
    entropy = _entropy(group)
    return np.divide(np.maximum(information, 0), entropy, out=np.zeros_like(entropy), where=entropy > 0)[()]


def _entropy(share: NDArray[np.float64]) -> NDArray[np.float64]:
    # + 0.0 turns −0 into 0.
    return -(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(-1) + 0.0


def _array(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
