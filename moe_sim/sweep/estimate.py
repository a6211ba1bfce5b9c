"""Estimates the duration of a sweep from a few steps of a few of its runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from moe_sim.sweep.grid import Cell
from moe_sim.trainer.trainer import Trainer

SAMPLES = 3
"""Number of runs sampled, spread evenly over the sweep."""
WARM_UP, TIMED = 2, 6
"""Steps of each sampled run: untimed, then timed."""


def estimated_seconds(cells: Sequence[Cell], workers: int) -> float:
    """Seconds that all cells will take on `workers` workers, extrapolated from a few runs timed here."""
    if not cells:
        return 0.0
    count = min(SAMPLES, len(cells))
    chosen = [cells[round(place * (len(cells) - 1) / max(1, count - 1))] for place in range(count)]
    pace = sum(_seconds_per_step(cell) for cell in chosen) / count
    return pace * sum(cell.steps for cell in cells) / workers


def _seconds_per_step(cell: Cell) -> float:
    trainer = Trainer(cell.config)
    for _ in range(WARM_UP):
        trainer.step()
    start = time.perf_counter()
    for _ in range(TIMED):
        trainer.step()
    return (time.perf_counter() - start) / TIMED
