"""The parts of the load-balancing loss for given load f and importance P, without tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_sim import metrics


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of E·Σ f·P. Arrays are (E,)."""

    terms: NDArray[np.float64]
    """f_i·P_i."""
    loss: float
    """E·Σ f·P, per choice."""
    gradient: NDArray[np.float64]
    """∂loss/∂P_i = E·f_i. f comes from an argmax and has no gradient."""
    huggingface: float
    """The same routing in the convention of transformers: K times as large."""
    importance_loss: float
    """CV² of P."""
    load_cv_squared: float
    """CV² of f, which has no gradient."""
    imbalance_ratio: float


def dissect(load: ArrayLike, importance: ArrayLike, top_k: int = 1) -> Anatomy:
    """Compute the parts of the load-balancing loss, E·Σ f·P (Fedus et al. 2021).

    Args:
        load: (E,) f, rescaled to total 1.
        importance: (E,) P, rescaled to total 1.
        top_k: K, for the convention of transformers.

    Raises:
        ValueError: unless both have the same length of at least 2, no negative or non-finite values and a sum above 0.
    """
    f, p = (_shares(values) for values in (load, importance))
    if f.shape != p.shape or len(f) < 2:
        raise ValueError("f and P need the same number of experts, at least 2")
    terms = f * p
    loss = float(len(f) * terms.sum())
    return Anatomy(
        terms=terms,
        loss=loss,
        gradient=len(f) * f,
        huggingface=top_k * loss,
        importance_loss=float(metrics.coefficient_of_variation(p) ** 2),
        load_cv_squared=float(metrics.coefficient_of_variation(f) ** 2),
        imbalance_ratio=float(metrics.imbalance_ratio(f)),
    )


def _shares(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all() or (array < 0).any() or array.sum() <= 0:
        raise ValueError("shares must be one-dimensional, finite, not negative and not all 0")
    return array / array.sum()


def resized(shares: ArrayLike, num_experts: int) -> NDArray[np.float64]:
    """Shares of another number of experts, with the total 1: a new expert starts with an even share, the others keep
    their proportions; without those that are left out, all are even if nothing else remains.

    Raises:
        ValueError: as `dissect` for one of f and P.
    """
    before = _shares(shares)
    kept = before[:num_experts]
    if not kept.sum():
        return np.full(num_experts, 1 / num_experts)
    room = len(kept) / num_experts
    return np.concatenate([room * kept / kept.sum(), np.full(num_experts - len(kept), 1 / num_experts)])


def contribution(*, task_loss: float, balance_loss: float, alpha: float) -> float:
    """The share of α·L_balance in the total loss L_task + α·L_balance; 0 where both are 0."""
    weighted = alpha * balance_loss
    total = task_loss + weighted
    return weighted / total if total else 0.0


class Example(NamedTuple):
    """A pair of f and P with something to show."""

    title: str
    load: tuple[float, ...]
    importance: tuple[float, ...]
    lesson: str


EXAMPLES: dict[str, Example] = {
    "balanced": Example(
        "Balanced", (0.25,) * 4, (0.25,) * 4, "All shares are equal and the loss is 1. That is not its smallest "
                                              "possible value."
    ),
    "below-one": Example(
        "Below 1", (0.6, 0.4), (0.31, 0.69),
        "1.0 is not a floor: where f and P lean in opposite directions the loss is smaller, here 0.924.",
    ),
    "hidden-collapse": Example(
        "Near 1, collapsed", (0.998, 0.001, 0.0005, 0.0005), (0.251, 0.25, 0.2498, 0.2492),
        "Tiny logits make P nearly uniform, so the loss is near 1 while one expert takes 99.8\u00a0% of the tokens. "
        "Always look at the load.",
    ),
    "why-not-variance": Example(
        "Why not the variance of P", (1.0, 0.0, 0.0, 0.0), (0.251, 0.2497, 0.2497, 0.2497),
        "CV² of P is close to 0 and reports no problem, yet every token's argmax is expert 1. f shows what P hides, "
        "and aims the push at expert 1 alone.",
    ),
    "collapsed": Example(
        "Collapsed", (0.97, 0.01, 0.01, 0.01), (0.91, 0.03, 0.03, 0.03),
        "One expert takes everything and the router is sure of it. The loss approaches E and pushes down a single P.",
    ),
}  # fmt: skip
"""In display order."""
