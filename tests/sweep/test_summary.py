"""The table of means that a sweep prints."""

from __future__ import annotations

import statistics

from moe_sim.sweep.summary import summary_text
from moe_sim.sweep.worker import run_cell
from tests.support.sweeping import small_grid


def test_several_seeds_have_a_mean_and_a_standard_deviation() -> None:
    rows = [run_cell(cell) for cell in small_grid(seeds=3).cells()]
    losses = [row["task_loss"] for row in rows]
    assert f"{statistics.mean(losses):.3f} ± {statistics.pstdev(losses):.3f}" in summary_text(rows, [])


def test_a_single_seed_has_no_standard_deviation() -> None:
    [row] = [run_cell(cell) for cell in small_grid(seeds=1).cells()]
    text = summary_text([row], [])
    assert f"{row['task_loss']:.3f}" in text
    assert "±" not in text
