"""Every figure can be drawn of every kind of run, says what the history says, and tells the page where its data come
from."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from moe_sim import Event, History, RunConfig, Trainer
from moe_sim.charts.experts import capacity, feedback_weight_distance, load_and_importance, specialization
from moe_sim.charts.figure import mark_events
from moe_sim.charts.overview import (
    imbalance,
    infinity_level,
    routing_map,
    share_axis_top,
    task_and_balance_loss,
    utilization,
    utilization_over_time,
)
from moe_sim.charts.page import PAGE_FIGURES, page_figures
from moe_sim.charts.palette import PALETTES
from moe_sim.charts.router import (
    gradient_cosine,
    loss_share,
    preference,
    router_gradients,
    router_logits,
    selection_bias,
)
from moe_sim.charts.scene import Scene
from moe_sim.charts.system import (
    coactivation,
    devices,
    dropped_by_choice,
    inference_load,
    inference_loss,
    routing_std,
    step_time,
)
from moe_sim.cli.run import scene_of
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.columns import PER_CHOICE, PER_EXPERT, SCALARS
from moe_sim.history.series import SIGNALS, sampling_std, signals
from moe_sim.router.balancing import METHODS
from moe_sim.tasks.topics import HELD_OUT_TOKENS

OTHER_LOSSES = ("importance", "load", "importance_and_load")
SHARES = ("load", "first_load", "importance", "processed", "preferred_load", "eval_load")
KINDS: dict[str, tuple[set[str], tuple[str, ...]]] = {
    "rows": (set(), ("task_loss", "balance_loss")), "smoothed": (set(), ("task_loss", "balance_loss")),
    "ratio": ({"infinity"}, ("imbalance",)), "expert": ({"expert"}, ("smoothed_load",)),
    "heat": (set(), ("smoothed_load",)), "coarse": ({"expert"}, ("grad_norm", "weight_change", "weight_distance")),
    "signal": ({"signal", "factor", "log"}, ()), "now": (set(), (*SHARES, "smoothed_load", "dropped")),
    "choices": (set(), ("dropped_by_choice",)), "devices": (set(), ("processed", "idle")),
    "plain": (set(), ("selection_bias",)), "limit": ({"batch_tokens"}, ()), "joint": (set(), ()),
    "together": (set(), ()), "map": ({"colours"}, ()),
    "layers": ({"numbers", "dead"}, ()), "layer_ratio": ({"layer", "infinity"}, ()),
}  # fmt: skip
"""The kinds of bindings that pages/dashboard/js/bindings.js knows: their keys besides `column`, and the columns of each
that messages carry."""


@pytest.fixture(scope="module")
def scene() -> Scene:
    trainer = Trainer(RunConfig(capacity_factor=0.5))
    trainer.run(60)
    return scene_of(trainer)


@pytest.fixture(scope="module")
def pairs() -> Scene:
    """Two experts a token, a bias for selection, noise, and not enough room."""
    config = RunConfig(top_k=2, capacity_factor=0.75, balancing="bias", router_noise="gaussian", noise_std=0.5)
    trainer = Trainer(config)
    trainer.run(60)
    return scene_of(trainer)


@pytest.fixture(scope="module")
def weighed() -> Scene:
    """A balancing loss whose weight was raised on the way."""
    trainer = Trainer(RunConfig())
    trainer.run(25)
    trainer.update(aux_loss_coef=0.3)
    trainer.run(38)
    return scene_of(trainer)


def trace(figure: go.Figure, kind: str):
    """The first trace with that kind of binding."""
    return next(item for item in figure.data if item.meta["kind"] == kind)


def every_kind_of_run() -> list[Any]:
    """Each mechanism with 2, 8, 20 and 64 experts; task, theme and top-k take turns so that each meets each."""
    runs = []
    for i, (balancing, (j, num_experts)) in enumerate(product(METHODS, enumerate((2, 8, 20, 64)))):
        row = i // 4
        task, theme = ("topics", "text")[(row + j) % 2], ("light", "dark")[(row // 2 + j) % 2]
        top_k = 1 + (row // 4 + j // 2) % 2
        changes = dict(balancing=balancing, num_experts=num_experts, top_k=top_k, task=task)
        runs.append(pytest.param(changes, theme, id=f"{balancing}-{num_experts}-top{top_k}-{task}-{theme}"))
    return runs


def test_every_two_settings_meet_in_some_run() -> None:
    runs = [(*param.values[0].values(), param.values[1]) for param in every_kind_of_run()]
    for one in range(5):
        for other in range(one):
            together = {(run[one], run[other]) for run in runs}
            assert len(together) == len({run[one] for run in runs}) * len({run[other] for run in runs})


DEEP = [
    pytest.param(dict(num_layers=3, num_experts=4, task="topics"), "dark", id="three layers"),
    pytest.param(dict(num_layers=2, num_experts=20, top_k=2, task="topics"), "light", id="two layers of 20"),
    pytest.param(dict(num_layers=2, task="language", top_k=2), "light", id="language"),
]


@pytest.mark.parametrize(("changes", "theme"), every_kind_of_run() + DEEP)
def test_every_figure_can_be_drawn_before_the_first_step_and_after(changes: dict[str, Any], theme) -> None:
    trainer = Trainer(RunConfig(aux_loss_coef=0.1, batch_tokens=128, **changes))
    ready = page_figures(scene_of(trainer), theme)
    trainer.run(25)
    trained = page_figures(scene_of(trainer), theme)
    assert list(ready) == list(trained)
    assert ("routing_map" in trained) == (changes["task"] == "topics")
    missing = set() if trainer.held_out.positions is not None else {"routing_map"}
    missing |= set() if trainer.config.num_layers > 1 else {"experts_by_layer"}
    assert set(trained) == set(PAGE_FIGURES) - missing
    for name, figure in trained.items():
        figure.to_json()
        assert_is_titled(figure)
        for item, before in zip(figure.data, ready[name].data, strict=True):
            assert item.meta == before.meta, "the page gets the figures once, before the first step"
            assert_is_bound(item.meta)
            assert shows_something(item) or may_be_empty(item.meta, trainer.history), (name, item.name)
    for figure in ready.values():
        figure.to_json()


def assert_is_titled(figure: go.Figure) -> None:
    """A name, small print, and a name on every axis that is seen; the rows of Specialization name themselves."""
    assert figure.layout.title.text
    assert figure.layout.meta["caption"]
    axes = [figure.layout.xaxis, figure.layout.yaxis]
    if any(item.yaxis == "y2" for item in figure.data):
        axes.append(figure.layout.yaxis2)
    for axis in axes:
        assert axis.visible is False or axis.title.text or figure.layout.title.text == "Specialization"


def assert_is_bound(meta: dict[str, Any]) -> None:
    """A documented kind of binding, with exactly the keys that it needs and a quantity that messages carry."""
    keys, columns = KINDS[meta["kind"]]
    assert set(meta) == {"kind"} | keys | ({"column"} if columns else set())
    assert meta.get("column") in columns or not columns
    assert meta.get("signal") in SIGNALS or "signal" not in keys


def shows_something(item: Any) -> bool:
    """Whether a trace has a finite number in the direction in which it measures."""
    values = item.z if item.type == "heatmap" else item.x if item.orientation == "h" else item.y
    return bool(np.isfinite(np.array(values, dtype=float)).any())


def may_be_empty(meta: dict[str, Any], history: History) -> bool:
    """Lines of what a run does not have: a limit, a balancing loss, a token for that expert."""
    config = history.initial_config
    if meta["kind"] == "limit":
        return config.capacity_factor is None
    if meta.get("signal") == "other_loss":
        return config.convention == "per_choice" and config.balancing not in OTHER_LOSSES
    if meta.get("signal") in ("eval_limited_loss", "eval_sorted_loss"):
        return config.capacity_factor is None and config.eval_capacity_factor is None
    if meta.get("signal") == "router_task_gradient":
        return config.balancing == "hash"  # which needs no router
    if meta.get("signal") in ("router_gradient_cosine", "router_balance_push"):
        return "aux_loss_coef" not in METHODS[config.balancing].knobs
    return meta["kind"] == "coarse" and not history.layer().column(meta["column"])[:20, meta["expert"]].any()


def test_what_may_be_missing_is_there_where_the_run_has_it() -> None:
    trainer = Trainer(
        RunConfig(num_experts=2, top_k=2, capacity_factor=1.0, aux_loss_coef=0.1, convention="huggingface")
    )
    trainer.run(25)
    for figure in page_figures(scene_of(trainer), "light").values():
        assert all(shows_something(item) for item in figure.data)


def test_the_bars_are_the_smoothed_load_in_percent_and_the_dead_are_called_dead(scene: Scene) -> None:
    figure = utilization(scene)
    load = scene.history.last("smoothed_load")
    np.testing.assert_allclose(trace(figure, "now").y, 100 * load)
    words = figure.layout.xaxis.ticktext
    for share, word in zip(load, words, strict=True):
        assert ("dead" in word) == (share < 0.1 / 8)


@pytest.mark.parametrize(("num_experts", "seed"), [(8, 0), (8, 3), (4, 1)])
def test_before_the_first_step_the_bars_are_the_first_choices_of_the_held_out_tokens(
    num_experts: int, seed: int
) -> None:
    trainer = Trainer(RunConfig(num_experts=num_experts, seed=seed))
    figure = utilization(scene_of(trainer))
    choices = trainer.network.layers[0].router(trainer.held_out.batch.inputs).argmax(1).tolist()
    shares = [100 * choices.count(expert) / len(choices) for expert in range(num_experts)]
    assert list(figure.data[0].y) == pytest.approx(shares)
    assert max(shares) < 100 * 2.5 / num_experts, "an even start"
    assert "before training" in figure.layout.meta["captions"][0]
    assert figure.layout.meta["caption"] == figure.layout.meta["captions"][0]
    trainer.step()
    assert utilization(scene_of(trainer)).layout.meta["caption"] == figure.layout.meta["captions"][1]


def test_nobody_is_called_dead_before_the_average_has_settled() -> None:
    trainer = Trainer(RunConfig())
    trainer.run(5)
    assert "dead" not in " ".join(utilization(scene_of(trainer)).layout.xaxis.ticktext)


def test_band_uniform_line_and_capacity_limit_stand_where_they_belong(scene: Scene) -> None:
    figure = utilization(scene)
    band, uniform = figure.layout.shapes
    # 1/8 = 12.5 %; the healthy band runs from half to twice of it; factor 0.5 caps at half of it.
    assert (band.y0, band.y1) == (6.25, 25.0)
    assert uniform.y0 == 12.5
    assert set(trace(figure, "limit").y) == {6.25}
    assert set(trace(capacity(scene), "limit").y) == {6.25}


@pytest.mark.parametrize(
    ("knobs", "percent"),
    [
        # C = ⌈1.1 · 256 / 12⌉ = ⌈23.47⌉ = 24 of 256 choices; 1.1/12 would be 9.17 %.
        ({"num_experts": 12, "capacity_factor": 1.1}, 9.375),
        # C = ⌈1 · 256 · 2 / 12⌉ = ⌈42.67⌉ = 43 of 512 choices.
        ({"num_experts": 12, "top_k": 2, "capacity_factor": 1.0}, 8.3984375),
        # C = ⌈1.25 · 256 / 8⌉ = 40 of 256 choices.
        ({"capacity_factor": 1.25}, 15.625),
    ],
)
def test_the_capacity_limit_is_drawn_at_the_capacity_rounded_up(knobs: dict[str, Any], percent: float) -> None:
    scene = scene_of(Trainer(RunConfig(**knobs)))
    for figure in (utilization(scene), capacity(scene)):
        assert set(trace(figure, "limit").y) == {percent}
        assert trace(figure, "limit").meta["batch_tokens"] == 256


def test_without_a_capacity_factor_there_is_no_limit() -> None:
    scene = scene_of(Trainer(RunConfig()))
    assert set(trace(utilization(scene), "limit").y) == {None}


@pytest.mark.parametrize(
    ("shares", "top"),
    # 8 experts: never below 2.5/8 = 31.25 %. Above it, the first round value with 4 % of headroom.
    [([0.0], 50), ([0.125], 50), ([0.48], 50), ([0.481], 75), ([0.125, 0.7], 75), ([0.73], 104), ([1.0], 104)],
)
def test_the_share_axis_ends_at_a_round_value_above_everything_on_it(shares: list[float], top: float) -> None:
    assert share_axis_top(shares, 8) == top


def test_the_band_and_the_dead_follow_the_thresholds(scene: Scene) -> None:
    lines = Thresholds(healthy_low=0.4, healthy_high=3, dead_share=0)
    moved = Scene(scene.run, scene.config, scene.routing, scene.task, lines)
    figure = utilization(moved)
    assert (figure.layout.shapes[0].y0, figure.layout.shapes[0].y1) == (5.0, 37.5)
    assert "dead" in " ".join(utilization(scene).layout.xaxis.ticktext)
    assert "dead" not in " ".join(figure.layout.xaxis.ticktext)


def test_infinity_is_drawn_above_every_finite_ratio_and_written_as_a_sign() -> None:
    trainer = Trainer(RunConfig(num_experts=64))
    trainer.run(3)
    figure = imbalance(scene_of(trainer))
    level = infinity_level(trainer.config)
    assert set(figure.data[0].y) == {level}
    assert set(figure.data[0].text) == {"∞"}
    assert figure.layout.yaxis.ticktext[-1] == "∞"
    # The largest finite ratio: all pairs on one expert but half a token's weight on another.
    assert level > 2 * 20 * 256 * 1


def test_a_ratio_is_drawn_as_it_is() -> None:
    history = History(RunConfig(num_experts=2))
    trainer = Trainer(RunConfig(num_experts=2, aux_loss_coef=1.0))
    trainer.run(60)
    scene = Scene(trainer.history, trainer.config, trainer.probe(), trainer.task)
    load = history.layer().column("smoothed_load") if len(history) else trainer.history.layer().column("smoothed_load")
    np.testing.assert_allclose(imbalance(scene).data[0].y, load.max(1) / load.min(1))


def test_stacked_shares_sum_to_a_hundred_and_many_experts_become_a_heatmap(scene: Scene) -> None:
    stacked = utilization_over_time(scene)
    assert len(stacked.data) == 8
    np.testing.assert_allclose(np.sum([item.y for item in stacked.data], axis=0), 100)
    trainer = Trainer(RunConfig(num_experts=17))
    trainer.run(4)
    (heat,) = utilization_over_time(scene_of(trainer)).data
    assert np.shape(heat.z) == (17, 4)


def test_losses_are_the_recorded_ones_and_the_bold_task_line_is_their_moving_average(scene: Scene) -> None:
    faint, bold, balance, weighed = task_and_balance_loss(scene).data
    losses = scene.history.column("task_loss")
    np.testing.assert_allclose(faint.y, losses)
    np.testing.assert_allclose(balance.y, scene.history.column("balance_loss"))
    np.testing.assert_allclose(weighed.y, signals(scene.history)["other_loss"])
    assert (balance.yaxis, weighed.yaxis) == ("y2", "y2")
    # By the definition: weights 0.95^age, normalized.
    weights = 0.95 ** np.arange(len(losses))[::-1]
    assert bold.y[-1] == pytest.approx((weights * losses).sum() / weights.sum())


def test_the_map_colours_each_token_by_its_expert_and_hollows_the_dropped(scene: Scene) -> None:
    (dots,) = routing_map(scene).data
    palette = PALETTES["light"]
    assert len(dots.x) == HELD_OUT_TOKENS
    assert scene.probe.dropped.any()
    for expert, dropped, fill, edge in zip(
        scene.probe.expert, scene.probe.dropped, dots.marker.color, dots.marker.line.color, strict=True
    ):
        colour = palette.expert_colours(8)[expert]
        assert (edge if dropped else fill) == colour
        assert (fill == palette.background) == dropped


def test_text_has_passages_instead_of_a_map() -> None:
    with pytest.raises(ValueError, match="no routing map"):
        routing_map(scene_of(Trainer(RunConfig(task="text"))))


def test_f_and_p_are_means_of_the_last_twenty_steps(scene: Scene) -> None:
    load, importance = load_and_importance(scene).data
    np.testing.assert_allclose(load.y, 100 * scene.history.column("load")[-20:].mean(0))
    np.testing.assert_allclose(importance.y, 100 * scene.history.column("importance")[-20:].mean(0))


def test_demand_is_what_was_processed_plus_what_was_dropped(scene: Scene) -> None:
    processed, dropped = capacity(scene).data[:2]
    np.testing.assert_allclose(np.add(processed.y, dropped.y), 100 * scene.history.column("load")[-20:].mean(0))
    # Nobody computes more than the cap, 0.5/8 of the pairs.
    assert max(processed.y) <= 6.25 + 1e-9


def test_each_row_of_the_specialization_matrix_sums_to_a_hundred(scene: Scene) -> None:
    (heat,) = specialization(scene).data
    np.testing.assert_allclose(np.sum(heat.z, axis=1), 100)


def test_moved_knobs_are_marked_with_their_words() -> None:
    trainer = Trainer(RunConfig())
    trainer.run(3)
    trainer.update(aux_loss_coef=0.03)
    trainer.run(1)
    assert trainer.history.events == (Event(3, {"aux_loss_coef": 0.03}),)
    scene = scene_of(trainer)
    figure = mark_events(imbalance(scene), scene)
    assert figure.layout.annotations[-1].text == "α 0 → 0.03"
    assert figure.layout.shapes[-1].x0 == 3


def test_documented_columns_exist() -> None:
    columns = {*SCALARS, *PER_EXPERT, *PER_CHOICE}
    for name in ("preferred_load", "processed", "eval_load", "dropped_by_choice", "selection_bias", "weight_distance"):
        assert name in columns


def test_preference_stands_beside_selection(pairs: Scene) -> None:
    preferred, selected = preference(pairs).data
    history = pairs.history
    np.testing.assert_allclose(preferred.y, 100 * history.column("preferred_load")[-20:].mean(0))
    np.testing.assert_allclose(selected.y, 100 * history.column("load")[-20:].mean(0))
    # The bias has evened out what the router would not have.
    assert max(preferred.y) > 1.5 * max(selected.y)


def test_the_bias_is_the_newest_one_and_its_chart_is_for_that_mechanism_only(pairs: Scene, scene: Scene) -> None:
    figure = selection_bias(pairs)
    np.testing.assert_array_equal(figure.data[0].y, pairs.history.column("selection_bias")[-1])
    assert figure.layout.meta["only"] == {"balancing": "bias"}
    assert not any(selection_bias(scene).data[0].y)


def test_lines_of_signals_stand_at_the_end_of_their_blocks(weighed: Scene) -> None:
    table = signals(weighed.history)
    for figure, lines in (
        (gradient_cosine(weighed), {"router_gradient_cosine": 1}),
        (router_logits(weighed), {"router_logit_max": 1, "router_logit_rms": 1, "router_noise_std": 1}),
        (step_time(weighed), {"step_time": 1}),
        (loss_share(weighed), {"loss_share": 100}),
        (routing_std(weighed), {"routing_std": 100}),
        (
            inference_loss(weighed),
            {"eval_task_loss": 1, "eval_limited_loss": 1, "eval_sorted_loss": 1, "eval_max_load": 100},
        ),
    ):
        assert [item.meta["signal"] for item in figure.data] == list(lines)
        for item in figure.data:
            name = item.meta["signal"]
            assert item.x.tolist() == [10, 20, 30, 40, 50, 60]
            assert item.meta["factor"] == lines[name]
            np.testing.assert_allclose(item.y, lines[name] * table[name])


def test_on_a_log_axis_a_pull_of_zero_is_a_gap(weighed: Scene) -> None:
    figure = router_gradients(weighed)
    task, push = figure.data
    assert figure.layout.yaxis.type == "log"
    assert task.meta["log"]
    assert push.meta["log"]
    # α was 0 until step 25, in the middle of the third block.
    assert np.isnan(push.y[:2]).all()
    gradient = weighed.history.column("router_balance_gradient")
    assert push.y[2] == pytest.approx(0.3 * gradient[25:30].sum() / 10)
    np.testing.assert_allclose(task.y, signals(weighed.history)["router_task_gradient"])


def test_second_choices_are_dropped_more_often_and_there_are_eight_places(pairs: Scene) -> None:
    (bars,) = dropped_by_choice(pairs).data
    np.testing.assert_allclose(bars.y, 100 * pairs.history.column("dropped_by_choice")[-20:].mean(0))
    assert len(bars.y) == len(bars.x) == 8
    assert bars.y[1] > bars.y[0]
    assert not any(bars.y[2:])
    # A choice's share of all pairs is 1/K, so the drops of both choices average to that of all pairs.
    assert np.mean(bars.y[:2]) == pytest.approx(100 * pairs.history.column("dropped_fraction")[-20:].mean())


def test_a_device_works_or_waits_for_the_busiest_one() -> None:
    trainer = Trainer(RunConfig())
    trainer.run(40)
    busy, idle = devices(scene_of(trainer)).data
    processed = trainer.history.layer().column("processed")[-20:].mean(0)
    np.testing.assert_allclose(busy.x, 8 * processed)
    np.testing.assert_allclose(np.add(busy.x, idle.x), 8 * processed.max())
    assert np.mean(busy.x) == pytest.approx(1), "without a cap all work is done"
    assert busy.orientation == idle.orientation == "h"


def test_the_line_by_lot_stands_where_chance_would_put_it(weighed: Scene) -> None:
    (line,) = routing_std(weighed).layout.shapes
    # √(1/8 · 7/8 / 256) = 2.07 %
    assert line.y0 == line.y1 == pytest.approx(2.067, abs=0.001)
    assert line.y0 == 100 * sampling_std(weighed.config)


def test_coactivation_is_read_by_rows_and_its_diagonal_is_empty(pairs: Scene, scene: Scene) -> None:
    (heat,) = coactivation(pairs).data
    z, together = np.array(heat.z, dtype=float), pairs.probe.together
    assert np.isnan(np.diagonal(z)).all()
    for row, column in ((0, 1), (3, 2), (7, 0)):
        assert z[row, column] == pytest.approx(100 * together[row, column] / together[row, row])
    np.testing.assert_allclose(np.nansum(z, axis=1), 100)  # with top-2 each token has one other expert
    alone = np.array(coactivation(scene).data[0].z, dtype=float)
    assert np.nansum(alone) == 0


def test_training_stands_beside_the_newest_look_at_inference(weighed: Scene) -> None:
    training, inference = inference_load(weighed).data
    history = weighed.history
    np.testing.assert_allclose(training.y, 100 * history.column("load")[-20:].mean(0))
    np.testing.assert_allclose(inference.y, 100 * history.column("eval_load")[59])
    assert sum(inference.y) == pytest.approx(100)


def test_inference_has_two_axes_with_their_units(weighed: Scene) -> None:
    figure = inference_loss(weighed)
    loss, limited, by_topic, load = figure.data
    assert (loss.yaxis, limited.yaxis, by_topic.yaxis, load.yaxis) == (None, None, None, "y2")
    assert "nats" in figure.layout.yaxis.title.text
    assert "%" in figure.layout.yaxis2.title.text
    assert max(load.y) <= 100


def test_the_feedback_loop_ends_with_how_far_the_weights_have_come(scene: Scene) -> None:
    names = [name for name in PAGE_FIGURES if name.startswith("feedback_")]
    assert names == ["feedback_share", "feedback_grad_norm", "feedback_weight_change", "feedback_weight_distance"]
    distance = scene.history.column("weight_distance").reshape(6, 10, 8).mean(1)
    for expert, line in enumerate(feedback_weight_distance(scene).data):
        np.testing.assert_allclose(line.y, np.where(distance[:, expert] > 0, distance[:, expert], np.nan))
        assert line.meta == {"kind": "coarse", "column": "weight_distance", "expert": expert}


def test_a_chart_over_time_says_so(scene: Scene) -> None:
    for name, figure in page_figures(scene, "light").items():
        kinds = {item.meta["kind"] for item in figure.data}
        over_time = bool(kinds & {"rows", "smoothed", "ratio", "expert", "heat", "coarse", "signal"})
        assert figure.layout.meta["time"] == over_time, name
        if over_time:
            assert figure.layout.xaxis.title.text == "step"
