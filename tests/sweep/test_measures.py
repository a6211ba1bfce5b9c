"""Statistics of a sweep's table follow their definitions: means over seeds, axes in order, the Pareto front."""

from __future__ import annotations

import argparse
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import KNOBS, RunConfig
from moe_sim.cli.sweep import add_sweep_arguments, read_grid
from moe_sim.diagnosis.final_metrics import FinalMetrics
from moe_sim.sweep.grid import Cell, Grid, parse_values
from moe_sim.sweep.measures import MEASURES, axes_of, complete, counted, groups, in_words, pareto_front, restricted
from moe_sim.sweep.table import rows_to_frame
from moe_sim.sweep.wording import command_of, duration, suggested_values
from moe_sim.sweep.worker import failed_row
from tests.support.sweep_rows import ALPHAS, row_of, table

COORDINATE = st.one_of(st.integers(0, 4).map(float), st.just(math.inf), st.just(math.nan))


def test_every_measure_is_a_final_metric() -> None:
    assert set(MEASURES) <= set(FinalMetrics.__dataclass_fields__)


@given(st.lists(st.tuples(COORDINATE, COORDINATE), max_size=12))
def test_the_front_holds_exactly_the_points_that_no_other_beats(points: list[tuple[float, float]]) -> None:
    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one[0] <= other[0] and one[1] <= other[1] and one != other

    whole = [point for point in points if not any(math.isnan(number) for number in point)]
    expected = {i for i, point in enumerate(points) if point in whole and not any(beats(o, point) for o in whole)}
    first, second = (np.array([point[i] for point in points], dtype=float) for i in (0, 1))
    front = pareto_front(first, second)
    assert set(front) == expected
    assert len(front) == len(expected)
    assert [points[i] for i in front] == sorted(points[i] for i in front)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=6))
def test_a_group_has_the_mean_and_the_population_standard_deviation_of_its_seeds(losses: list[float]) -> None:
    grid = Grid(RunConfig(), {"top_k": (2,)}, seeds=len(losses), steps=600)
    rows = [row_of(cell, task_loss=loss) for cell, loss in zip(grid.cells(), losses, strict=True)]
    (group,) = groups(rows_to_frame(rows), grid.axes)
    mean = sum(losses) / len(losses)
    assert group.settings == {"top_k": 2}
    assert group.mean("task_loss") == pytest.approx(mean)
    variance = sum((loss - mean) ** 2 for loss in losses) / len(losses)
    assert group.std("task_loss") == pytest.approx(math.sqrt(variance), abs=1e-7)


def test_one_infinite_ratio_makes_the_mean_infinite_and_leaves_no_deviation() -> None:
    cells = Grid(RunConfig(), {"top_k": (1,)}, seeds=2, steps=600).cells()
    rows = [row_of(cells[0], imbalance_ratio=3.0), row_of(cells[1], imbalance_ratio=math.inf)]
    (group,) = groups(rows_to_frame(rows), {"top_k": (1,)})
    assert group.mean("imbalance_ratio") == math.inf
    assert math.isnan(group.std("imbalance_ratio"))


def test_runs_without_a_dead_expert_do_not_count_towards_the_step_of_the_first_death() -> None:
    cells = Grid(RunConfig(), {"top_k": (1,)}, seeds=3, steps=600).cells()
    steps = (20, None, 40)
    rows = [row_of(cell, first_dead_step=step) for cell, step in zip(cells, steps, strict=True)]
    (group,) = groups(rows_to_frame(rows), {"top_k": (1,)})
    assert group.mean("first_dead_step") == 30


def test_loads_are_shown_in_percent() -> None:
    (group,) = groups(table({"top_k": (1,)}, seeds=1, outcome=lambda config: dict(max_load=0.25)), {"top_k": (1,)})
    assert group.mean("max_load") == 25
    assert MEASURES["max_load"].text(25.0) == "25"
    assert MEASURES["imbalance_ratio"].text(math.inf) == "∞"
    assert MEASURES["task_loss"].text(math.nan) == ""


def test_axes_are_found_whatever_the_row_order_and_their_values_sorted() -> None:
    axes = {
        "aux_loss_coef": (0.0, 0.01, 1.0), "balancing": ("load_balancing", "importance", "none"),
        "capacity_factor": (0.5, 2.0, None), "renormalize": (False, True), "top_k": (2, 4),
    }  # fmt: skip
    frame = table(axes, seeds=2)
    found = axes_of(frame.sample(frac=1, random_state=1))
    assert found == axes
    assert len(groups(frame, found)) == 3 * 3 * 3 * 2 * 2
    assert all(len(group.runs) == 2 for group in groups(frame, found))


def test_groups_follow_the_order_of_the_axes_and_omit_rows_with_other_values() -> None:
    frame = table({"aux_loss_coef": (0.0, 0.1), "top_k": (1, 2)})
    axes = {"top_k": (2, 1), "aux_loss_coef": (0.1,)}
    assert [group.settings for group in groups(frame, axes)] == [
        {"top_k": 2, "aux_loss_coef": 0.1}, {"top_k": 1, "aux_loss_coef": 0.1}
    ]  # fmt: skip


def test_a_table_without_rows_has_no_axes_and_no_groups() -> None:
    frame = rows_to_frame([])
    assert axes_of(frame) == {}
    assert groups(frame, {"top_k": (1, 2)}) == []
    assert counted(frame) == "0 runs"


def test_a_knob_can_be_held_fixed_at_any_value_including_off() -> None:
    frame = table({"capacity_factor": (1.0, None), "top_k": (1, 2)}, seeds=1)
    kept = restricted(frame, {"capacity_factor": None, "top_k": 2})
    assert len(kept) == 1
    assert kept["capacity_factor"].isna().all()
    assert list(kept["top_k"]) == [2]


def test_runs_without_a_result_are_left_out_and_counted() -> None:
    cells = Grid(RunConfig(), {"top_k": (1, 2, 4)}, seeds=1, steps=600).cells()
    rows = [row_of(cells[0]), row_of(cells[1], "diverged"), row_of(cells[2], "failed", "it broke")]
    frame = rows_to_frame(rows)
    assert list(complete(frame)["run"]) == [cells[0].run]
    assert counted(frame) == "1 run; left out: 1 diverged, 1 failed"


def test_runs_on_different_texts_of_visitors_are_told_apart() -> None:
    configs = [RunConfig(task="language", own_text=key) for key in (None, "00ab" * 3, "0011" * 3)]
    frame = rows_to_frame([failed_row(Cell(config, 1), "not here") for config in configs])
    assert axes_of(frame)["own_text"] == ("0011" * 3, "00ab" * 3, None)


def test_a_combination_is_named_in_short_form() -> None:
    settings = {"aux_loss_coef": 0.03, "num_experts": 8, "capacity_factor": None, "balancing": "expert_choice"}
    assert in_words(settings) == "α 0.03, experts 8, capacity factor off, balancing mechanism expert choice"


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if name != "seed" and knob.has_widget])
def test_the_suggested_values_of_every_knob_are_allowed_and_at_least_two(name: str) -> None:
    assert 2 <= len(parse_values(name, suggested_values(KNOBS[name]))) <= 9


@pytest.mark.parametrize(
    ("base", "seeds", "command"),
    [
        (RunConfig(), 2, "aux_loss_coef=0,0.001,0.01 capacity_factor=1,off --seeds 2"),
        (
            RunConfig(seed=7, router_noise="gaussian", aux_loss_coef=0.3), 2,
            "router_noise=gaussian aux_loss_coef=0,0.001,0.01 capacity_factor=1,off seed=7..8",
        ),
        (RunConfig(seed=7), 1, "aux_loss_coef=0,0.001,0.01 capacity_factor=1,off seed=7"),
    ],
)  # fmt: skip
def test_the_command_runs_the_same_sweep(base: RunConfig, seeds: int, command: str) -> None:
    grid = Grid(base, {"aux_loss_coef": ALPHAS[:3], "capacity_factor": (1.0, None)}, seeds, steps=300)
    text = command_of(grid)
    assert text == f"python -m moe_sim sweep {command} --steps 300 --out sweep.parquet"
    parser = argparse.ArgumentParser()
    add_sweep_arguments(parser)
    again = read_grid(parser.parse_args(text.split()[4:]))
    assert {cell.key for cell in again.cells()} == {cell.key for cell in grid.cells()}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "a few seconds"), (43, "about 45 s"), (200, "about 3 min"), (9000, "about 2.5 h")],
)
def test_durations_are_rounded(seconds: float, words: str) -> None:
    assert duration(seconds) == words
