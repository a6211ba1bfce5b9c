"""The final metrics of a run as one row of numbers, for sweeps and the tables of the README."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_sim.history.history import History
from moe_sim.history.series import evaluations, smoothed_imbalance
from moe_sim.metrics import SMOOTHING_HORIZON

LAST = 50
"""Steps at the end of a run over which noisy quantities are averaged."""


@dataclass(frozen=True)
class FinalMetrics:
    """Final metrics of one run. Losses, fractions and entropies are means of its last 50 steps; loads are smoothed.
    Values are NaN, or None for whole numbers, if the run was too short."""

    steps_done: int
    """Fewer than planned if the run diverged."""
    diverged: bool
    max_load: float
    """Largest smoothed load; of several layers, the largest of all. So are the next two."""
    imbalance_ratio: float
    """Smoothed max/min; ∞ if an expert got nothing."""
    dead_experts: int | None
    task_loss: float
    balance_loss: float
    """Switch's E·Σ f P, `per_choice`, whatever was optimized."""
    dropped_fraction: float
    unserved_fraction: float
    router_entropy: float
    load_entropy: float
    specialization: float
    eval_task_loss: float
    """Of held-out tokens in inference; mean of the evaluations in the last 50 steps."""
    eval_max_load: float
    """The largest load of held-out tokens in inference, at the last evaluation."""
    first_dead_step: int | None
    """The first step, from 20 on, with a dead expert; None if there was none."""


def final_metrics(history: History, *, diverged: bool) -> FinalMetrics:
    """Computes the final metrics of a run.

    Args:
        history: the run; it may have no steps.
        diverged: whether it ended because its numbers were no longer finite.
    """
    length = len(history)

    def mean(name: str) -> float:
        values = history.column(name, max(0, length - LAST), length)
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else float("nan")

    held_out_load = evaluations(history, "eval_load", 0, length)
    dead = history.column("dead_experts", SMOOTHING_HORIZON - 1, length) > 0
    return FinalMetrics(
        steps_done=length,
        diverged=diverged,
        max_load=float(history.last("smoothed_load").max()),
        imbalance_ratio=float(smoothed_imbalance(history.layer(), length - 1, length)[0]) if length else float("nan"),
        dead_experts=int(history.last("dead_experts")) if length else None,
        task_loss=mean("task_loss"),
        balance_loss=mean("balance_loss"),
        dropped_fraction=mean("dropped_fraction"),
        unserved_fraction=mean("unserved_fraction"),
        router_entropy=mean("router_entropy"),
        load_entropy=mean("load_entropy"),
        specialization=float(history.last("specialization")),
        eval_task_loss=mean("eval_task_loss"),
        eval_max_load=float(held_out_load[-1].max()) if len(held_out_load) else float("nan"),
        first_dead_step=int(dead.argmax()) + SMOOTHING_HORIZON if dead.any() else None,
    )
