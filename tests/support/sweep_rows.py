"""Made-up rows of sweeps, for tests of tables and charts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pandas as pd

from moe_sim import RunConfig
from moe_sim.diagnosis.final_metrics import FinalMetrics
from moe_sim.sweep.grid import Cell, Grid
from moe_sim.sweep.table import rows_to_frame
from moe_sim.sweep.worker import Row

ALPHAS = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0)


def row_of(cell: Cell, status: str = "done", error: str | None = None, **outcome: Any) -> Row:
    """A run's row; metrics that are not given have typical values."""
    typical = FinalMetrics(
        steps_done=cell.steps, diverged=status == "diverged", max_load=0.2, imbalance_ratio=2.0, dead_experts=0,
        task_loss=2.2, balance_loss=1.0, dropped_fraction=0.0, unserved_fraction=0.0, router_entropy=0.5,
        load_entropy=0.9, specialization=0.5, eval_task_loss=2.2, eval_max_load=0.2, first_dead_step=None,
    )  # fmt: skip
    values = asdict(typical) | outcome
    return {
        "run": cell.run, **cell.config.model_dump(), "steps": cell.steps, **values, "status": status, "error": error
    }  # fmt: skip


def like_the_real_ones(config: RunConfig) -> dict[str, Any]:
    """Metrics as in real runs: without α the router collapses (max/min is ∞); too much α harms the task."""
    alpha = config.aux_loss_coef
    loss = 2.2 + 0.04 * (math.log10(alpha) + 1.5) ** 2 if alpha else 2.47
    return dict(
        task_loss=loss + 0.01 * config.seed + 0.001 * config.num_experts,
        imbalance_ratio=1 + 0.1 / alpha if alpha else math.inf,
        max_load=min(1.0, (1 + 0.02 / alpha) / config.num_experts) if alpha else 1.0,
        dead_experts=0 if alpha else config.num_experts - 1,
        first_dead_step=None if alpha else 20,
    )


Ending = Callable[[RunConfig], dict[str, Any]]


def table(axes: dict[str, tuple[Any, ...]], seeds: int = 2, outcome: Ending = like_the_real_ones) -> pd.DataFrame:
    """The table of a whole sweep."""
    cells = Grid(RunConfig(), axes, seeds, steps=600).cells()
    return rows_to_frame([row_of(cell, **outcome(cell.config)) for cell in cells])
