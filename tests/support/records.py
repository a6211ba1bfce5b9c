"""Histories of made-up steps."""

from __future__ import annotations

import numpy as np

from moe_sim import History, StepRecord
from moe_sim.history.columns import PER_CHOICE, PER_EXPERT, SCALARS, column_positions, row_width


def append(history: History, record: StepRecord) -> None:
    """Appends a step to the history of a run with one layer."""
    row = np.empty(row_width(1, history.initial_config.num_experts))
    positions = column_positions(1, history.initial_config.num_experts)
    for name in SCALARS + PER_EXPERT + PER_CHOICE:
        row[positions[name]] = np.ravel(getattr(record, name)) if name not in SCALARS else getattr(record, name)
    history.extend(row[None])
