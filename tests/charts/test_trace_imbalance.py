"""The imbalance of a trace on its log axis: right numbers, ∞ at the top, one scale for two traces side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe_sim.charts.traces import MOST_LINES, TraceScene, draw
from moe_sim.history.trace import open_trace
from tests.support.drawn_traces import draw_trace
from tests.support.traces import COLLAPSED, EVEN, UNEVEN, write_trace


def test_a_line_for_each_layer_is_max_over_min_of_its_smoothed_load(tmp_path: Path) -> None:
    history = open_trace(write_trace(tmp_path, EVEN, COLLAPSED, UNEVEN))
    lines = draw(TraceScene(history, 1), "imbalance").data
    assert [line.name for line in lines] == ["block.0", "block.1", "block.2"]
    for line, ratio in zip(lines, (1, 394 / 2, 190 / 20), strict=True):
        np.testing.assert_allclose(line.y, [ratio] * 30, rtol=1e-6)
        assert set(line.text) == {f"{ratio:.3g}"}
    assert [line.opacity == 1 for line in lines] == [False, True, False]


def test_an_expert_without_tokens_is_infinity_at_the_top(tmp_path: Path) -> None:
    history = open_trace(write_trace(tmp_path, EVEN, (400, 0, 0, 0)))
    figure = draw(TraceScene(history), "imbalance")
    axis, line = figure.layout.yaxis, figure.data[1]
    assert axis.type == "log"
    assert (axis.tickvals[-1], axis.ticktext[-1]) == (100, "∞")
    assert set(line.y) == {100}
    assert set(line.text) == {"∞"}
    assert axis.range[0] < 0 < np.log10(100) < axis.range[1]


def test_no_finite_ratio_reaches_infinity_and_ticks_are_in_words(tmp_path: Path) -> None:
    history = open_trace(write_trace(tmp_path, EVEN, (3_000_000, 1, 1, 1)))
    figure = draw(TraceScene(history), "imbalance")
    axis = figure.layout.yaxis
    np.testing.assert_allclose(figure.data[1].y, 3_000_000, rtol=1e-6)
    assert axis.tickvals[-1] == 10_000_000
    assert list(axis.ticktext) == ["1", "10", "100", "1k", "10k", "100k", "1M", "∞"]
    assert list(axis.tickvals) == [10**decade for decade in range(8)]


def test_of_many_layers_the_worst_the_median_and_the_chosen_one_are_drawn(tmp_path: Path) -> None:
    drawn = draw_trace(tmp_path, (3,) * (MOST_LINES + 1))
    lines = draw(TraceScene(drawn.history, 2), "imbalance").data
    assert [line.name for line in lines] == ["worst", "median", "layers.2"]
    top = lines[0].y[0]
    assert {*lines[0].y, *lines[1].y, *lines[2].y} == {top}  # the last expert never gets anything
    history = open_trace(write_trace(tmp_path / "finite", *[(100 * times, 100) for times in (1, 2, 3, 4, 5, 6, 70)]))
    worst, median, chosen = draw(TraceScene(history, 5), "imbalance").data
    for line, ratio in ((worst, 70), (median, 4), (chosen, 6)):
        np.testing.assert_allclose(line.y, ratio, rtol=1e-6)
    six = open_trace(write_trace(tmp_path / "six", *[EVEN] * MOST_LINES))
    assert len(draw(TraceScene(six), "imbalance").data) == MOST_LINES


def test_two_traces_beside_one_another_share_the_scale_and_the_place_of_infinity(tmp_path: Path) -> None:
    wild = open_trace(write_trace(tmp_path / "a", (90_000, 3, 3, 3)))
    broken = open_trace(write_trace(tmp_path / "b", (400, 0, 0, 0)))
    alone = [draw(TraceScene(one), "imbalance").layout.yaxis for one in (wild, broken)]
    assert alone[0].range != alone[1].range
    left = draw(TraceScene(wild, beside=broken), "imbalance")
    right = draw(TraceScene(broken, beside=wild), "imbalance")
    assert left.layout.yaxis.to_plotly_json() == right.layout.yaxis.to_plotly_json()
    assert left.layout.yaxis.range == alone[0].range
    assert set(right.data[0].y) == {left.layout.yaxis.tickvals[-1]}


def test_before_the_first_record_the_axis_is_there_and_the_lines_are_empty(tmp_path: Path) -> None:
    for layers in (1, 2, MOST_LINES + 1):
        history = open_trace(write_trace(tmp_path / str(layers), *[EVEN] * layers, records=0))
        figure = draw(TraceScene(history), "imbalance")
        assert figure.layout.yaxis.ticktext[-1] == "∞"
        assert all(len(line.y) == 0 for line in figure.data)
