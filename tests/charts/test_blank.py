"""Empty figures are drawn once for each shape of a run: they must be those of every run of that shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moe_sim import History, RunConfig, Trainer
from moe_sim.charts.blank import SHAPE, _figure, blank_figures
from moe_sim.charts.page import PAGE_FIGURES, page_figures
from moe_sim.charts.scene import Scene
from moe_sim.config.knobs import KNOBS
from moe_sim.config.thresholds import Thresholds

OTHERS: dict[str, Any] = {
    "seed": 3, "num_experts": 6, "top_k": 2, "capacity_factor": 1.5, "overflow": "reroute", "drop_order": "probability",
    "balancing": "bias", "convention": "first_choice", "aux_loss_coef": 0.1, "bias_rate": 0.02, "z_loss_coef": 0.1,
    "router_noise": "gaussian", "noise_std": 0.5, "batch_tokens": 128, "learning_rate": 0.01, "num_topics": 6,
    "topic_skew": 0.2, "topic_shift": 1, "shared_direction": 1.0, "frozen": True, "expert_hidden_size": 16,
    "domain_mix": "even", "task": "text", "warmup_steps": 100, "frozen_experts": True, "frozen_router": True,
    "frozen_head": True, "router_blind": True, "swap_columns": "1-2", "swap_weights": "1-2", "router_init": "plain",
    "expert_init": "copies", "num_layers": 2, "balance_scope": "running", "micro_batches": 8,
    "bias_update": "proportional", "score_function": "sigmoid", "shared_experts": 1, "sequence_tokens": 4,
    "mistake": "detached", "eval_capacity_factor": 0.5,
}  # fmt: skip


def drawn(config: RunConfig) -> dict[str, Any]:
    """The page's figures as the browser gets them."""
    task = Trainer(config).task
    figures = blank_figures(PAGE_FIGURES, config, task, "light", Thresholds())
    return {name: json.loads(text) for name, text in figures.items()}


def expected(config: RunConfig) -> dict[str, Any]:
    """The page's figures of a run that has not begun, drawn for it alone."""
    trainer = Trainer(config)
    scene = Scene(History(config), config, trainer.probe(), trainer.task)
    return {name: json.loads(str(figure.to_json())) for name, figure in page_figures(scene, "light").items()}


def test_another_value_is_known_for_every_knob_that_can_move_alone() -> None:
    assert set(KNOBS) - set(OTHERS) <= {"renormalize", "own_text"}


@pytest.mark.parametrize("knob", OTHERS)
def test_a_run_gets_the_figures_that_would_be_drawn_for_it_alone(knob: str) -> None:
    config = RunConfig(**{knob: OTHERS[knob]})
    mine, alone = drawn(config), expected(config)
    assert set(mine) == set(alone)
    for figures in (mine, alone):  # the first choices at step 0 arrive with the stream
        del figures["utilization"]["data"][0]["y"]
        del figures["utilization"]["layout"]["yaxis"]["range"]
        figures["utilization"]["layout"]["xaxis"].pop("ticktext")
        if knob == "num_layers":
            del figures["experts_by_layer"]["data"][0]["z"], figures["experts_by_layer"]["data"][0]["text"]
    for name in set(mine) - {"routing_map"}:
        assert mine[name] == alone[name], name


def test_tokens_stand_where_their_seed_puts_them() -> None:
    config = RunConfig(seed=5, num_topics=6)
    dots = drawn(config)["routing_map"]["data"][0]
    task = Trainer(config).task
    assert task.held_out.positions is not None
    for axis, column in (("x", 0), ("y", 1)):
        assert dots[axis] == pytest.approx(task.held_out.positions[:, column], abs=1e-4)
    assert dots["customdata"] == [task.group_names[group] for group in task.held_out.batch.groups]


def test_runs_that_differ_in_seed_and_strengths_are_drawn_once() -> None:
    _figure.cache_clear()
    for seed in range(4):
        drawn(RunConfig(seed=seed, aux_loss_coef=seed / 10))
    assert _figure.cache_info().misses == len(PAGE_FIGURES) - 1  # a single layer has no chart of all layers
    assert set(SHAPE) <= set(KNOBS)


def test_only_the_figures_that_are_asked_for_are_drawn() -> None:
    _figure.cache_clear()
    config = RunConfig(num_experts=5)
    figures = blank_figures(["capacity", "routing_map"], config, Trainer(config).task, "light", Thresholds())
    assert set(figures) == {"capacity", "routing_map"}
    assert _figure.cache_info().misses == 2
