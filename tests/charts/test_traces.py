"""The charts of a trace: each draws for every kind of trace, with the numbers that the definitions give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from moe_sim.charts.layers import DEAD
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.trace_page import trace_slide
from moe_sim.charts.traces import FIGURES, MOST_POINTS, OF_ALL_LAYERS, TraceScene, draw, figure_names, spread
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.trace import open_trace
from tests.support.drawn_traces import Drawn, draw_trace, weighted_mean
from tests.support.traces import COLLAPSED, EVEN, write_trace

HOLES = [2.0, math.nan, math.inf, -math.inf, 1.0, *[0.5] * 25]
KINDS = {
    "full": dict(numbers={"task_loss": np.linspace(3, 1, 30), "with_holes": HOLES, "never": [math.nan] * 30}),
    "one record": dict(records=1, numbers={"task_loss": [2.0]}),
    "many records": dict(records=MOST_POINTS + 77, numbers={"task_loss": np.arange(MOST_POINTS + 77.0)}),
    "one layer": dict(experts=(8,)),
    "layers of many sizes": dict(experts=(2, 64, 17, 65, 5)),
    "no records": dict(records=0),
    "nothing but counts": dict(plain=True),
    "no groups": dict(groups=()),
    "128 layers of 512 experts": dict(experts=(512,) * 128, records=3, groups=("a", "b")),
}  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw_trace(tmp_path_factory.mktemp("full"), (4, 6), **KINDS["full"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_chart_draws_in_both_themes_and_as_a_slide(tmp_path: Path, kind: str) -> None:
    history = draw_trace(tmp_path, **KINDS[kind]).history
    names = figure_names(history)
    assert ("experts_by_layer" in names) == (history.num_layers > 1)
    assert set(history.numbers) < set(names)
    for layer in sorted({0, history.num_layers - 1}):
        scene = TraceScene(history, layer)
        for name in names:
            figures: dict[Theme, go.Figure] = {"light": draw(scene, name, "light"), "dark": draw(scene, name, "dark")}
            for theme, figure in figures.items():
                assert figure.layout.title.text, name
                assert figure.data, name
                assert figure.layout.legend.font.color == PALETTES[theme].ink
            assert len(figures["dark"].to_json()) > 0
            assert (figures["light"].to_json() == figures["dark"].to_json()) is False
            slide = trace_slide(scene, name)
            assert (slide.layout.width, slide.layout.height) == (1600, 900)
            assert "Mixtral" in slide.layout.annotations[-1].text


def test_a_trace_has_the_charts_that_it_has_numbers_for(tmp_path: Path, full: Drawn) -> None:
    assert figure_names(full.history) == [*FIGURES, "task_loss", "with_holes", "never"]
    bare = [name for name, (_, needed) in FIGURES.items() if not needed]
    assert figure_names(draw_trace(tmp_path / "bare", plain=True).history) == bare
    one = figure_names(draw_trace(tmp_path / "one", (4,), plain=True).history)
    assert one == [name for name in bare if name not in OF_ALL_LAYERS]


def test_a_logged_number_with_the_name_of_a_chart_has_a_chart_of_its_own(tmp_path: Path) -> None:
    numbers = {"imbalance": np.arange(30.0), "router": np.arange(30.0)}
    history = draw_trace(tmp_path, plain=True, numbers=numbers).history
    names = figure_names(history)
    assert len(set(names)) == len(names)
    assert names[-2:] == ["logged_imbalance", "router"]
    scene = TraceScene(history)
    assert draw(scene, "imbalance").layout.yaxis.type == "log"
    for name in names[-2:]:
        np.testing.assert_array_equal(draw(scene, name).data[0].y, np.arange(30.0))


def test_experts_by_layer_shows_the_smoothed_load_in_even_shares_and_crosses_the_dead(full: Drawn) -> None:
    cells = draw(TraceScene(full.history), "experts_by_layer").data[0]
    assert np.shape(cells.z) == (2, 6)
    for layer, experts in enumerate(full.experts):
        load = full.smoothed(layer)[-1]
        np.testing.assert_allclose(cells.z[layer][:experts], load * experts)
        assert np.isnan(cells.z[layer][experts:]).all()
        words = [DEAD if share < 0.1 / experts else f"{100 * share:.0f}\u00a0%" for share in load]
        assert list(cells.text[layer]) == words + [""] * (6 - experts)
        assert list(cells.text[layer]).count(DEAD) == 1
        assert list(cells.customdata[layer]) == ["dead" if word == DEAD else "" for word in cells.text[layer]]


def test_no_expert_is_crossed_before_record_20_and_all_below_the_threshold_are_after(tmp_path: Path) -> None:
    path = write_trace(tmp_path, EVEN, COLLAPSED, records=19)
    assert DEAD not in np.array(draw(TraceScene(open_trace(path)), "experts_by_layer").data[0].text)
    path = write_trace(tmp_path, EVEN, COLLAPSED, records=1)
    text = np.array(draw(TraceScene(open_trace(path)), "experts_by_layer").data[0].text)
    assert ((text == DEAD) == [[False] * 4, [False, True, True, True]]).all()
    strict = TraceScene(open_trace(path), thresholds=Thresholds(dead_share=0.0))
    assert DEAD not in np.array(draw(strict, "experts_by_layer").data[0].text)


def test_from_65_experts_on_maps_and_bars_show_ranks(tmp_path: Path) -> None:
    drawn = draw_trace(tmp_path, (64, 65), 25)
    cells = draw(TraceScene(drawn.history), "experts_by_layer")
    assert cells.layout.xaxis.title.text == "rank"
    for layer, experts in enumerate(drawn.experts):
        by_rank = np.sort(drawn.smoothed(layer)[-1])[::-1]
        np.testing.assert_allclose(cells.data[0].z[layer][:experts], by_rank * experts, rtol=1e-6)
    assert np.isnan(cells.data[0].z[0][64])
    for layer in (0, 1):
        load = drawn.smoothed(layer)[-1]
        figure = draw(TraceScene(drawn.history, layer), "utilization")
        assert figure.layout.xaxis.title.text == ("expert", "rank")[layer]
        order = np.argsort(-load) if layer else np.arange(64)
        np.testing.assert_array_equal(figure.data[0].customdata, order)
        np.testing.assert_allclose(figure.data[0].y, 100 * load[order])


def test_the_busiest_expert_of_each_layer_over_time(full: Drawn) -> None:
    cells = draw(TraceScene(full.history), "layers_over_time").data[0]
    expected = np.stack([full.smoothed(layer).max(1) * full.experts[layer] for layer in (0, 1)])
    np.testing.assert_allclose(cells.z, expected, rtol=1e-6)
    np.testing.assert_array_equal(cells.x, np.arange(1, 31))
    assert (cells.zmin, cells.zmax) == (1, 6)  # everything on one of six experts


def test_utilization_over_time_is_stacked_or_a_map_of_the_smoothed_load(tmp_path: Path) -> None:
    drawn = draw_trace(tmp_path, (16, 17))
    lines = draw(TraceScene(drawn.history, 0), "utilization_over_time").data
    assert [line.name for line in lines] == [f"expert {expert}" for expert in range(16)]
    assert {line.stackgroup for line in lines} == {"load"}
    np.testing.assert_allclose(np.stack([line.y for line in lines], 1), 100 * drawn.smoothed(0))
    cells = draw(TraceScene(drawn.history, 1), "utilization_over_time").data
    assert [one.type for one in cells] == ["heatmap"]
    np.testing.assert_allclose(cells[0].z, 100 * drawn.smoothed(1).T)


def test_charts_over_time_draw_at_most_400_records_and_the_newest_among_them(tmp_path: Path) -> None:
    drawn = draw_trace(tmp_path, (3, 2), 950, plain=True, numbers={"task_loss": np.arange(950.0)})
    rows = spread(950)
    assert (len(rows), rows[0], rows[-1]) == (400, 0, 949)
    assert set(np.diff(rows)) == {2, 3}
    bars = draw(TraceScene(drawn.history), "utilization").data[0]
    np.testing.assert_allclose(bars.y, 100 * weighted_mean(drawn.loads(0)))
    for name in ("layers_over_time", "utilization_over_time", "imbalance", "task_loss"):
        np.testing.assert_array_equal(draw(TraceScene(drawn.history), name).data[0].x, rows + 1)
    stacked = np.stack([line.y for line in draw(TraceScene(drawn.history), "utilization_over_time").data], 1)
    np.testing.assert_allclose(stacked[-1], bars.y)
    assert list(spread(0)) == []
    assert list(spread(1)) == [0]


def test_load_and_importance_are_means_of_the_last_20_records(full: Drawn) -> None:
    for layer in (0, 1):
        load, importance = draw(TraceScene(full.history, layer), "load_and_importance").data
        np.testing.assert_allclose(load.y, 100 * full.loads(layer)[-20:].mean(0))
        measured = np.array(full.importance)[-20:, full.cells(layer)]
        np.testing.assert_allclose(importance.y, 100 * measured.astype(float).mean(0))


def test_evaluation_stands_beside_training_with_its_newest_load(full: Drawn) -> None:
    training, evaluation = draw(TraceScene(full.history, 1), "evaluation_load").data
    np.testing.assert_allclose(training.y, 100 * full.loads(1)[-20:].mean(0))
    newest = full.evaluations[-1][full.cells(1)]
    np.testing.assert_allclose(evaluation.y, 100 * newest / newest.sum())


def test_the_load_balancing_loss_is_e_times_the_sum_of_f_p(full: Drawn) -> None:
    for layer, experts in enumerate(full.experts):
        line = draw(TraceScene(full.history, layer), "balance_loss").data[0]
        measured = np.array(full.importance)[:, full.cells(layer)]
        np.testing.assert_allclose(line.y, experts * (full.loads(layer) * measured).sum(1), rtol=1e-5)


def test_the_router_chart_has_the_entropy_and_the_largest_logit_of_the_layer(full: Drawn) -> None:
    lines = [draw(TraceScene(full.history, layer), "router").data for layer in (0, 1)]
    for entropy, largest in lines:
        np.testing.assert_allclose(9 * np.array(entropy.y), largest.y, rtol=1e-5)
        assert largest.yaxis == "y2"
    assert list(lines[0][0].y) != list(lines[1][0].y)


def test_specialization_is_the_smoothed_share_of_each_group(full: Drawn) -> None:
    """Each record counts alike, and so do its choices in all layers."""
    joints = np.array([one / one.sum() for one in full.groups])
    for layer in (0, 1):
        cells = draw(TraceScene(full.history, layer), "specialization").data[0]
        joint = weighted_mean(joints)[:, full.cells(layer)]
        np.testing.assert_allclose(cells.z, 100 * joint / joint.sum(1, keepdims=True))
        assert list(cells.y) == ["code", "prose"]


def test_groups_with_numbers_or_dates_for_names_are_still_names(tmp_path: Path) -> None:
    drawn = draw_trace(tmp_path, (3,), groups=("0", "10", "2024-01-01"))
    assert draw(TraceScene(drawn.history), "specialization").layout.yaxis.type == "category"


def test_a_logged_number_is_drawn_where_it_is_finite_with_the_average_of_those(full: Drawn) -> None:
    each, average = draw(TraceScene(full.history), "with_holes").data
    known = np.array([2.0, 1.0, *[0.5] * 25])
    np.testing.assert_array_equal(each.y, known)
    np.testing.assert_array_equal(each.x, [1, 5, *range(6, 31)])
    np.testing.assert_allclose(average.y, [weighted_mean(known[: end + 1]) for end in range(len(known))])
    assert [len(line.y) for line in draw(TraceScene(full.history), "never").data] == [0, 0]


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in (*OF_ALL_LAYERS, "imbalance")])
def test_of_several_layers_the_caption_names_the_one_that_is_shown(full: Drawn, name: str) -> None:
    captions = [draw(TraceScene(full.history, layer), name).layout.meta["caption"] for layer in (0, 1)]
    assert [caption.split(" · ")[0] for caption in captions] == ["layers.0", "layers.1"]


def test_the_caption_of_one_layer_or_of_a_logged_number_names_none(tmp_path: Path, full: Drawn) -> None:
    one = draw_trace(tmp_path, (4,)).history
    for name in figure_names(one):
        assert "layers.0" not in draw(TraceScene(one), name).layout.meta["caption"]
    assert "layers" not in draw(TraceScene(full.history), "task_loss").layout.meta["caption"]
