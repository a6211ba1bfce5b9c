"""Every figure can be drawn of every kind of run, and says what the history says."""

import numpy as np
import plotly.graph_objects as go
import pytest

from moe_sim import Event, History, RunConfig, Trainer
from moe_sim.charts import (
    Scene,
    capacity,
    imbalance,
    load_and_importance,
    mark_events,
    page_figures,
    routing_map,
    specialization,
    task_and_balance_loss,
    utilization,
    utilization_over_time,
)
from moe_sim.charts.main import infinity_level
from moe_sim.palette import PALETTES
from moe_sim.topics import HELD_OUT_TOKENS


@pytest.fixture(scope="module")
def scene() -> Scene:
    trainer = Trainer(RunConfig(capacity_factor=0.5))
    trainer.run(60)
    return Scene.of(trainer)


def trace(figure: go.Figure, key: str):
    """The trace whose binding has that key."""
    return next(item for item in figure.data if key in (item.meta or {}))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("steps", [0, 1, 25])
@pytest.mark.parametrize(
    "changes",
    [{}, {"num_experts": 2}, {"num_experts": 64, "top_k": 8}, {"task": "text"}, {"capacity_factor": 0.25}],
    ids=["default", "two", "many", "text", "capacity"],
)
def test_every_figure_can_be_drawn(changes: dict, steps: int, theme) -> None:
    trainer = Trainer(RunConfig(**changes))
    trainer.run(steps)
    scene = Scene.of(trainer)
    figures = page_figures(scene, theme)
    for figure in figures.values():
        figure.to_json()
        assert figure.layout.title.text
        assert figure.layout.meta["caption"]
        for axis in (figure.layout.xaxis, figure.layout.yaxis):
            assert axis.visible is False or axis.title.text or figure.layout.title.text == "Specialization"
    assert ("routing_map" in figures) == (changes.get("task") != "text")


def test_the_bars_are_the_smoothed_load_in_percent_and_the_dead_are_called_dead(scene: Scene) -> None:
    figure = utilization(scene)
    load = scene.history.last("smoothed_load")
    np.testing.assert_allclose(trace(figure, "now").y, 100 * load)
    words = figure.layout.xaxis.ticktext
    for share, word in zip(load, words, strict=True):
        assert ("dead" in word) == (share < 0.1 / 8)


def test_nobody_is_called_dead_before_the_average_has_settled() -> None:
    trainer = Trainer(RunConfig())
    trainer.run(5)
    assert "dead" not in " ".join(utilization(Scene.of(trainer)).layout.xaxis.ticktext)


def test_band_uniform_line_and_capacity_limit_stand_where_they_belong(scene: Scene) -> None:
    figure = utilization(scene)
    band, uniform = figure.layout.shapes
    # 1/8 = 12.5 %; the healthy band runs from half to twice of it; factor 0.5 caps at half of it.
    assert (band.y0, band.y1) == (6.25, 25.0)
    assert uniform.y0 == 12.5
    assert set(trace(figure, "limit").y) == {6.25}
    assert set(trace(capacity(scene), "limit").y) == {6.25}


def test_infinity_is_drawn_above_every_finite_ratio_and_written_as_a_sign() -> None:
    trainer = Trainer(RunConfig(num_experts=64))
    trainer.run(3)
    figure = imbalance(Scene.of(trainer))
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
    load = history.column("smoothed_load") if len(history) else trainer.history.column("smoothed_load")
    np.testing.assert_allclose(imbalance(scene).data[0].y, load.max(1) / load.min(1))


def test_stacked_shares_sum_to_a_hundred_and_many_experts_become_a_heatmap(scene: Scene) -> None:
    stacked = utilization_over_time(scene)
    assert len(stacked.data) == 8
    np.testing.assert_allclose(np.sum([item.y for item in stacked.data], axis=0), 100)
    trainer = Trainer(RunConfig(num_experts=17))
    trainer.run(4)
    (heat,) = utilization_over_time(Scene.of(trainer)).data
    assert np.shape(heat.z) == (17, 4)


def test_losses_are_the_recorded_ones_and_the_bold_task_line_is_their_moving_average(scene: Scene) -> None:
    faint, bold, balance = task_and_balance_loss(scene).data
    losses = scene.history.column("task_loss")
    np.testing.assert_allclose(faint.y, losses)
    np.testing.assert_allclose(balance.y, scene.history.column("balance_loss"))
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
        routing_map(Scene.of(Trainer(RunConfig(task="text"))))


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
    scene = Scene.of(trainer)
    figure = mark_events(imbalance(scene), scene)
    assert figure.layout.annotations[-1].text == "α 0 → 0.03"
    assert figure.layout.shapes[-1].x0 == 3
