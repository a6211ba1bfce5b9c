"""The charts of a sweep show the means of its table where they belong, for every kind of knob and of row."""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import RunConfig
from moe_sim.charts.scales import knob_scale, scale_for
from moe_sim.charts.sweep import pareto, u_curve
from moe_sim.charts.sweep_maps import parallel_coordinates, phase_diagram
from moe_sim.sweep.grid import Grid
from moe_sim.sweep.measures import MEASURES
from moe_sim.sweep.table import rows_to_frame
from tests.support.sweep_rows import ALPHAS, row_of, table

AXES: dict[str, tuple[Any, ...]] = {"aux_loss_coef": ALPHAS, "num_experts": (4, 8)}
ODD: dict[str, tuple[Any, ...]] = {
    "task": ("topics", "text"), "balancing": ("none", "sinkhorn"), "capacity_factor": (0.5, None),
    "renormalize": (False, True), "top_k": (1, 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table(AXES, seeds=3)


def trace(figure: go.Figure, name: str):
    return next(item for item in figure.data if item.name == name)


def all_charts(frame: pd.DataFrame, axes: dict[str, tuple[Any, ...]], theme) -> list[go.Figure]:
    """Every chart of every axis, with other axes and measures taking turns, so that each measure is met."""
    turns, names = cycle(MEASURES), list(axes)
    figures = [pareto(frame, axes, "max_load", "eval_task_loss", colour, theme) for colour in (None, *names)]
    figures += [pareto(frame, axes, theme=theme)]
    for x, other in zip(names, names[1:] + names[:1], strict=True):
        for _ in range(3):
            figures += [u_curve(frame, axes, x, next(turns), series, theme) for series in (None, other)]
            figures += [phase_diagram(frame, axes, x, other, next(turns), theme)]
            figures += [parallel_coordinates(frame, axes, next(turns), theme)]
    return figures


def broken() -> pd.DataFrame:
    """Rows of which none has a result, and one whose numbers are not finite."""
    cells = Grid(RunConfig(), AXES, seeds=1, steps=600).cells()
    return rows_to_frame(
        [row_of(cells[0], "failed", "it broke"), row_of(cells[1], "diverged", task_loss=math.nan, max_load=math.nan),
         row_of(cells[2], "stopped"), row_of(cells[3], eval_task_loss=math.nan, imbalance_ratio=math.inf)]
    )  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("rows", "axes"),
    [
        (rows_to_frame([]), AXES),
        (table({name: values[:1] for name, values in AXES.items()}, seeds=1), AXES),
        (table(AXES, seeds=1), AXES),
        (table(ODD), ODD),
        (broken(), AXES),
    ],
    ids=["no-rows", "one-row", "one-seed", "odd-knobs", "broken-rows"],
)
def test_every_chart_can_be_drawn(rows: pd.DataFrame, axes: dict[str, tuple[Any, ...]], theme) -> None:
    for figure in all_charts(rows, axes, theme):
        figure.to_json()
        assert figure.layout.title.text
        assert "run" in figure.layout.meta["caption"]
        if figure.data[0].type != "parcoords":
            assert figure.layout.xaxis.title.text
            assert figure.layout.yaxis.title.text


def test_what_is_left_out_is_counted_in_every_caption() -> None:
    for figure in all_charts(broken(), AXES, "light"):
        assert "1 run; left out: 1 failed, 1 diverged, 1 stopped" in figure.layout.meta["caption"]


def test_the_curve_goes_through_the_means_with_a_dot_for_each_run(frame: pd.DataFrame) -> None:
    figure = u_curve(frame, AXES, "aux_loss_coef", "task_loss", "num_experts")
    for experts in (4, 8):
        mine = frame[frame["num_experts"] == experts]
        means = [mine[mine["aux_loss_coef"] == alpha]["task_loss"].mean() for alpha in ALPHAS]
        line = trace(figure, f"experts {experts}")
        np.testing.assert_allclose(line.y, means)
        assert list(line.x[1:]) == list(ALPHAS[1:])
        dots = trace(figure, f"experts {experts}, runs")
        assert sorted(dots.y) == pytest.approx(sorted(mine["task_loss"]))


def test_the_band_is_one_standard_deviation_over_seeds(frame: pd.DataFrame) -> None:
    figure = u_curve(frame[frame["num_experts"] == 8], AXES, "aux_loss_coef", "task_loss")
    band, line = trace(figure, "Task loss ± std"), trace(figure, "Task loss")
    count = len(ALPHAS)
    std = 0.01 * np.std([0, 1, 2])
    np.testing.assert_allclose(np.array(band.y[:count]) - line.y, std)
    np.testing.assert_allclose(line.y - np.array(band.y[count:])[::-1], std)
    assert list(band.x[:count]) == list(line.x)


def test_the_ring_is_at_the_lowest_mean(frame: pd.DataFrame) -> None:
    figure = u_curve(frame, AXES, "aux_loss_coef", "task_loss", "num_experts")
    ring = trace(figure, "experts 4, lowest mean")
    assert ring.x[0] in (0.01, 0.1)
    assert ring.y[0] == min(trace(figure, "experts 4").y)


def test_alpha_0_has_a_place_left_of_the_smallest_number_and_is_called_0(frame: pd.DataFrame) -> None:
    figure = u_curve(frame, AXES, "aux_loss_coef", "task_loss", "num_experts")
    axis, first = figure.layout.xaxis, trace(figure, "experts 4").x[0]
    assert axis.type == "log"
    assert axis.title.text == "Load-balancing coefficient α (log)"
    assert 0 < first < 0.001
    assert axis.range[0] < math.log10(first)
    assert axis.ticktext[axis.tickvals.index(first)] == "0"
    line = next(shape for shape in figure.layout.shapes if shape.x0 == shape.x1)
    assert first < line.x0 < 0.001


def test_infinity_has_a_place_above_the_largest_number_and_is_called_so(frame: pd.DataFrame) -> None:
    figure = u_curve(frame, AXES, "aux_loss_coef", "imbalance_ratio", "num_experts")
    axis, line = figure.layout.yaxis, trace(figure, "experts 4")
    assert axis.title.text.endswith("(log)")
    assert axis.ticktext[axis.tickvals.index(line.y[0])] == "∞"
    assert line.y[0] > max(line.y[1:])
    assert "∞" in line.text[0]


def test_a_knob_without_numbers_stands_side_by_side_in_its_order_with_bars() -> None:
    figure = u_curve(table(ODD), ODD, "capacity_factor", "task_loss")
    assert figure.layout.xaxis.categoryarray == ("0.5", "off")
    line = trace(figure, "Task loss")
    assert line.mode == "markers"
    assert line.error_y.array is not None


def test_the_front_goes_through_the_means_that_no_other_one_beats(frame: pd.DataFrame) -> None:
    figure = pareto(frame, AXES, "max_load", "task_loss", "num_experts")
    means = frame.groupby(["aux_loss_coef", "num_experts"])[["max_load", "task_loss"]].mean().to_numpy()
    best = [
        (100 * load, loss)
        for load, loss in means
        if not any((o <= (load, loss)).all() and (o < (load, loss)).any() for o in means)
    ]
    front = trace(figure, "Pareto front of the means")
    np.testing.assert_allclose(list(zip(front.x, front.y, strict=True)), sorted(best))
    named = [note for note in figure.layout.annotations if note.text.startswith("α")]
    assert {(note.x, note.y) for note in named} <= set(zip(front.x, front.y, strict=True))
    assert named


def test_the_trade_off_has_a_dot_for_each_run_and_a_larger_one_for_each_combination(frame: pd.DataFrame) -> None:
    figure = pareto(frame, AXES, colour="num_experts")
    for experts in (4, 8):
        runs, means = trace(figure, f"experts {experts}, runs"), trace(figure, f"experts {experts}")
        assert (len(runs.x), len(means.x)) == (3 * len(ALPHAS), len(ALPHAS))
        assert means.marker.size > runs.marker.size
    axis = figure.layout.xaxis
    assert "∞" in axis.ticktext
    assert axis.title.text.endswith("(log)")


def test_no_two_lines_look_alike() -> None:
    values = (0.0, *(0.001 * step for step in range(1, 20)))
    figure = u_curve(
        table({"aux_loss_coef": values, "top_k": (1, 2)}, seeds=1), {"aux_loss_coef": values, "top_k": (1, 2)}, "top_k",
        "task_loss", "aux_loss_coef",
    )  # fmt: skip
    looks = {(item.marker.color, item.marker.symbol) for item in figure.data if item.mode == "lines+markers"}
    assert len(looks) == len(values)


def test_the_phase_diagram_writes_the_means_into_the_cells_and_leaves_impossible_ones_empty() -> None:
    axes: dict[str, tuple[Any, ...]] = {"num_experts": (2, 8), "top_k": (1, 4)}
    rows = table(axes, seeds=2, outcome=lambda config: dict(max_load=config.top_k / 10 + config.seed / 50))
    heat = phase_diagram(rows, axes, "num_experts", "top_k", "max_load").data[0]
    assert (list(heat.x), list(heat.y)) == (["2", "8"], ["1", "4"])
    assert [list(row) for row in heat.text] == [["11", "11"], ["", "41"]]
    assert np.isnan(np.array(heat.z, dtype=float)).tolist() == [[False, False], [True, False]]
    assert np.array(heat.z)[1, 1] == pytest.approx(41)


def test_an_infinite_cell_says_so_and_is_coloured_like_the_largest(frame: pd.DataFrame) -> None:
    heat = phase_diagram(frame, AXES, "aux_loss_coef", "num_experts", "imbalance_ratio").data[0]
    assert [row[0] for row in heat.text] == ["∞", "∞"]
    assert np.array(heat.z)[0, 0] == np.nanmax(np.array(heat.z))


def test_parallel_coordinates_have_an_axis_for_each_knob_and_a_line_for_each_run(frame: pd.DataFrame) -> None:
    item = parallel_coordinates(frame, AXES, "specialization").data[0]
    labels = [dimension.label for dimension in item.dimensions]
    assert labels[:2] == ["α", "experts"]
    assert item.dimensions[0].ticktext == ("0", "0.001", "0.01", "0.1", "1", "10")
    assert len(item.dimensions[0]["values"]) == len(frame)
    assert list(item.dimensions[2]["values"]) == list(frame["task_loss"])


@given(
    st.lists(st.one_of(st.floats(1e-6, 1e6), st.sampled_from([0.0, math.inf, math.nan])), max_size=12), st.booleans()
)
def test_a_scale_keeps_the_order_of_all_it_has_a_place_for(values: list[float], log: bool) -> None:
    scale = scale_for(values, log=log)
    placed = dict(zip(values, scale.place(values), strict=True))
    shown = sorted(value for value in placed if not math.isnan(value) and (log or math.isfinite(value)))
    places = [placed[value] for value in shown]
    assert places == sorted(places)
    assert len(set(places)) == len(set(shown))
    axis = scale.axis("y", values)
    low, high = (10**end for end in axis["range"]) if log else axis["range"]
    assert all(low <= place <= high for place in places)


@pytest.mark.parametrize(
    ("values", "log"),
    [((0, 0.001, 10), True), ((1, 2, 4), False), ((2, 64), True), ((0,), False), ((), False), ((1, 1000), True)],
)
def test_knobs_that_span_much_get_a_logarithmic_axis(values: tuple[float, ...], log: bool) -> None:
    assert bool(knob_scale(values).log) == log


def test_few_values_are_the_ticks_and_many_leave_room_between_them() -> None:
    assert scale_for((1, 2, 4), log=False).axis("k", (1, 2, 4))["tickvals"] == [1, 2, 4]
    many = [10**exponent for exponent in np.linspace(-4, 1, 30)]
    ticks = scale_for(many, log=True).axis("α", many)["tickvals"]
    assert 3 <= len(ticks) <= 7
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in ticks)
