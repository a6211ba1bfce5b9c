"""The charts that a page is sent first: those of the Python figures, drawn once for all who begin with the same run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moe_sim import RunConfig, Trainer
from moe_sim.charts import Scene, page_figures
from moe_sim.charts.compare import comparison_figures
from moe_sim.history import History
from moe_sim.live import LiveRun
from moe_sim.thresholds import Thresholds
from pages import dashboard
from pages.dashboard.blank import blank_comparison, blank_page


def as_json(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: json.loads(figure.to_json()) for name, figure in figures.items()}


def scene_before(config: RunConfig, thresholds: Thresholds) -> Scene:
    trainer = Trainer(config)
    return Scene(History(config), config, trainer.probe(), trainer.task, thresholds)


@pytest.mark.parametrize("config", [RunConfig(seed=3, capacity_factor=1.0), RunConfig(task="text", num_experts=20)])
def test_a_page_is_sent_the_python_figures_before_the_first_step(config: RunConfig) -> None:
    lines = Thresholds(dead_share=0.3)
    run = LiveRun(config)
    run.thresholds = lines
    assert dashboard.payload(run, "dark")["figures"] == as_json(page_figures(scene_before(config, lines), "dark"))


def test_runs_side_by_side_are_sent_theirs() -> None:
    first, other = RunConfig(), RunConfig(num_experts=5)
    expected = comparison_figures([scene_before(one, Thresholds()) for one in (first, other)], "light")
    assert blank_comparison(((first, first), (other, other)), Thresholds(), "light") == as_json(expected)


def test_whoever_begins_with_the_same_run_is_sent_the_same_and_nobody_else() -> None:
    payloads = [dashboard.payload(LiveRun(RunConfig(seed=seed)), "light") for seed in (1, 1, 2)]
    assert payloads[0]["run_id"] != payloads[1]["run_id"]
    assert payloads[0]["figures"] is payloads[1]["figures"]
    assert payloads[0]["figures"] != payloads[2]["figures"]


def test_a_knob_that_has_moved_since_the_start_shows() -> None:
    start = RunConfig()
    capped = blank_page(start, start.replace(capacity_factor=0.5), Thresholds(), "light")
    assert capped["utilization"] != blank_page(start, start, Thresholds(), "light")["utilization"]
