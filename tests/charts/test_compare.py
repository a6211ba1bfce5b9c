"""Charts of runs side by side: shared axes, each run's own line and lane, and what the page binds them to."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import plotly.graph_objects as go
import pytest

from moe_sim import Trainer
from moe_sim.charts.compare import comparison_figures, dead_experts, imbalance_ratios, task_loss, task_loss_difference
from moe_sim.charts.overview import infinity_level
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.scene import Scene
from moe_sim.cli.run import scene_of
from moe_sim.diagnosis.deaths import deaths
from moe_sim.history.series import smoothed_imbalance
from moe_sim.metrics import SMOOTHING_HORIZON
from tests.support.inspecting import small_config

SHARED = ["compare_task_loss", "compare_task_loss_difference", "compare_imbalance", "compare_timeline"]
SETS: dict[str, list[dict[str, Any]]] = {
    "two": [{}, {"aux_loss_coef": 0.1}],
    "two of other sizes": [{"num_experts": 2}, {"num_experts": 64, "batch_tokens": 512}],
    "four, one diverges": [{"num_experts": 8}, {"learning_rate": 1000.0}, {"num_experts": 20}, {"top_k": 2}],
    "the first one diverges": [{"learning_rate": 1000.0}, {}],
    "text": [{"task": "text"}, {"task": "text", "balancing": "expert_choice"}, {"balancing": "bias"}],
}


def scene_after(knobs: dict[str, Any], steps: int) -> Scene:
    trainer = Trainer(small_config(**knobs))
    trainer.run(steps)
    return scene_of(trainer)


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    """Every set after 40 steps, unless it diverged."""
    return {name: [scene_after(knobs, 40) for knobs in knobs_of] for name, knobs_of in SETS.items()}


def smoothed(values: np.ndarray) -> list[float]:
    """Exponential moving average with a horizon of 20 steps, by its definition."""
    keep = 1 - 1 / SMOOTHING_HORIZON
    averages = []
    for last in range(len(values)):
        shares = keep ** np.arange(last, -1, -1.0)
        averages.append(float((shares * values[: last + 1]).sum() / shares.sum()))
    return averages


def run_of(trace: Any) -> int:
    return trace.meta["run"]


@pytest.mark.parametrize("theme", get_args(Theme))
@pytest.mark.parametrize("name", SETS)
def test_every_figure_can_be_drawn_before_the_first_step_and_after(
    scenes: dict[str, list[Scene]], name: str, theme: Theme
) -> None:
    ready = comparison_figures([scene_after(knobs, 0) for knobs in SETS[name]], theme)
    trained = comparison_figures(scenes[name], theme)
    letters = "ABCD"[: len(SETS[name])]
    own = [
        f"{kind}_{letter}" for letter, scene in zip(letters, scenes[name], strict=True)
        for kind in ("utilization", "utilization_over_time", "routing_map")
        if kind != "routing_map" or scene.config.task != "text"
    ]  # fmt: skip
    assert list(ready) == list(trained) == SHARED + own
    assert len({figure.layout.title.text for figure in trained.values()}) == len(trained), "names tell charts apart"
    for key, figure in trained.items():
        figure.to_json()
        ready[key].to_json()
        assert figure.layout.meta["caption"]
        assert [trace.meta for trace in figure.data] == [trace.meta for trace in ready[key].data], (
            "the page gets the figures once, before the first step"
        )
        for trace in figure.data:
            assert 0 <= run_of(trace) < len(letters)


@pytest.mark.parametrize("name", SETS)
def test_shared_figures_follow_every_run_and_own_ones_only_theirs(scenes: dict[str, list[Scene]], name: str) -> None:
    figures = comparison_figures(scenes[name])
    every = set(range(len(SETS[name])))
    for key, figure in figures.items():
        followed = {run_of(trace) for trace in figure.data}
        if key in SHARED:
            assert "run" not in figure.layout.meta
            assert followed == (every - {0} if key == "compare_task_loss_difference" else every)
        else:
            run = "ABCD".index(key[-1])
            assert figure.layout.meta["run"] == run
            assert followed == {run}
            assert figure.layout.title.text.startswith(f"{key[-1]}: ")


@pytest.mark.parametrize("name", SETS)
def test_the_task_losses_are_those_of_the_runs_smoothed(scenes: dict[str, list[Scene]], name: str) -> None:
    figure = task_loss(scenes[name])
    for index, (trace, scene) in enumerate(zip(figure.data, scenes[name], strict=True)):
        values = scene.history.column("task_loss")
        assert trace.name == "ABCD"[index]
        np.testing.assert_array_equal(trace.x, np.arange(1, len(values) + 1))
        np.testing.assert_allclose(trace.y, smoothed(values))
        assert trace.meta == {"kind": "smoothed", "column": "task_loss", "run": index}


@pytest.mark.parametrize("name", SETS)
def test_the_difference_is_each_loss_less_the_first_as_far_as_both_go(
    scenes: dict[str, list[Scene]], name: str
) -> None:
    first, *others = [smoothed(scene.history.column("task_loss")) for scene in scenes[name]]
    figure = task_loss_difference(scenes[name])
    assert len(figure.data) == len(others)
    for index, (trace, values) in enumerate(zip(figure.data, others, strict=True), start=1):
        shared = min(len(first), len(values))
        np.testing.assert_array_equal(trace.x, np.arange(1, shared + 1))
        np.testing.assert_allclose(trace.y, np.subtract(values[:shared], first[:shared]), atol=1e-12)
        assert trace.name == "ABCD"[index]
        assert trace.meta == {"kind": "difference", "column": "task_loss", "baseline": 0, "run": index}


def test_runs_that_are_the_same_differ_by_nothing(scenes: dict[str, list[Scene]]) -> None:
    one = scenes["two"][0]
    assert not np.any(task_loss_difference([one, one]).data[0].y)


@pytest.mark.parametrize("name", SETS)
def test_imbalance_ratios_share_one_axis_with_infinity_at_its_end(scenes: dict[str, list[Scene]], name: str) -> None:
    figure = imbalance_ratios(scenes[name])
    top = max(infinity_level(scene.config) for scene in scenes[name])
    assert figure.layout.yaxis.type == "log"
    assert (figure.layout.yaxis.tickvals[-1], figure.layout.yaxis.ticktext[-1]) == (top, "∞")
    for index, (trace, scene) in enumerate(zip(figure.data, scenes[name], strict=True)):
        ratio = smoothed_imbalance(scene.history)
        np.testing.assert_array_equal(trace.y, np.where(np.isinf(ratio), top, ratio))
        assert [text == "∞" for text in trace.text] == np.isinf(ratio).tolist()
        assert trace.meta == {"kind": "ratio", "column": "imbalance", "infinity": top, "run": index}
        low, high = figure.layout.yaxis.range
        assert np.all((np.log10(trace.y) >= low) & (np.log10(trace.y) <= high))


def spells_drawn(trace: Any) -> list[tuple[int, int]]:
    """The pieces of a line, as first and last step."""
    x = list(trace.x)
    assert len(x) == len(trace.y)
    assert all(value is None for value in x[2::3])
    assert {value for value in trace.y if value is not None} <= {trace.meta["height"]}
    assert [value is None for value in x] == [value is None for value in trace.y]
    return list(zip(x[::3], x[1::3], strict=True))


@pytest.mark.parametrize("name", SETS)
def test_the_timeline_has_a_lane_for_each_run_and_a_line_for_each_spell(
    scenes: dict[str, list[Scene]], name: str
) -> None:
    figure = dead_experts(scenes[name])
    lanes: list[list[float]] = []
    for index, scene in enumerate(scenes[name]):
        own = [trace for trace in figure.data if run_of(trace) == index]
        told = deaths(scene.history, scene.thresholds.dead_share)
        assert [trace.meta["expert"] for trace in own] == list(range(scene.config.num_experts))
        assert [spells_drawn(trace) for trace in own] == [list(spells) for spells in told.spells]
        lanes.append([trace.meta["height"] for trace in own])
        assert lanes[-1] == sorted(set(lanes[-1]))
        assert [trace.line.color for trace in own] == PALETTES["light"].expert_colours(scene.config.num_experts)
    low, high = sorted(figure.layout.yaxis.range)
    assert all(low < height < high for lane in lanes for height in lane)
    assert all(max(one) < min(other) for one, other in pairwise(lanes))
    assert list(figure.layout.yaxis.ticktext) == list("ABCD"[: len(lanes)])
    for lane, tick in zip(lanes, figure.layout.yaxis.tickvals, strict=True):
        assert min(lane) <= tick <= max(lane)


def test_some_experts_die_in_what_was_drawn(scenes: dict[str, list[Scene]]) -> None:
    assert any(spells_drawn(trace) for trace in dead_experts(scenes["four, one diverges"]).data)


@pytest.mark.parametrize("theme", get_args(Theme))
def test_runs_are_told_apart_by_colour_and_by_dashes(scenes: dict[str, list[Scene]], theme: Theme) -> None:
    figures: list[go.Figure] = [
        draw(scenes["four, one diverges"], theme) for draw in (task_loss, task_loss_difference, imbalance_ratios)
    ]
    for figure in figures:
        lines = [trace.line for trace in figure.data]
        assert len({line.color for line in lines}) == len({line.dash for line in lines}) == len(lines)
        for trace in figure.data:
            assert trace.line.color == PALETTES[theme].runs[run_of(trace)]
