"""The pages' figures before the first step, as JSON; the browser fills them from the stream.

Drawing them takes a fifth of a second, but they depend on few knobs: each combination is drawn once and cached.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np

from moe_sim.charts.compare import comparison_figures
from moe_sim.charts.page import page_figures
from moe_sim.charts.palette import Theme
from moe_sim.charts.scene import Scene
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.tasks.catalogue import make_task
from moe_sim.tasks.task import Task

SHAPE = ("task", "num_experts", "top_k", "capacity_factor", "batch_tokens", "num_topics")
"""The knobs that determine the empty figures, except for the token positions on the routing map."""


def blank_figures(config: RunConfig, task: Task, theme: Theme, thresholds: Thresholds) -> tuple[str, ...]:
    """JSON objects of figures by name; together they hold all figures of the page.

    Args:
        config: the run's configuration at step 0.
        task: the run's task.
        theme: the page's theme.
        thresholds: the visitor's thresholds.
    """
    shape = RunConfig(**{name: getattr(config, name) for name in SHAPE})
    figures, template = _figures_of_shape(shape, theme, thresholds)
    return figures if template is None else (*figures, _with_tokens(template, task))


@lru_cache(maxsize=32)
def blank_comparison(starts: tuple[RunConfig, ...], theme: Theme, thresholds: Thresholds) -> tuple[str, ...]:
    """The same for the runs of a comparison, by their configurations at step 0."""
    scenes = [_blank_scene(start, thresholds) for start in starts]
    return (_as_object({name: str(figure.to_json()) for name, figure in comparison_figures(scenes, theme).items()}),)


@lru_cache(maxsize=64)
def _figures_of_shape(shape: RunConfig, theme: Theme, thresholds: Thresholds) -> tuple[tuple[str, ...], str | None]:
    """All figures but the routing map, and the map with the tokens of the default seed."""
    figures = page_figures(_blank_scene(shape, thresholds), theme)
    drawn = {name: str(figure.to_json()) for name, figure in figures.items()}
    template = drawn.pop("routing_map", None)
    return (_as_object(drawn),), template


def _blank_scene(start: RunConfig, thresholds: Thresholds) -> Scene:
    task = make_task(start)
    nowhere = np.zeros(len(task.held_out.batch.labels), dtype=np.uint8)
    groups, experts = len(task.group_names), start.num_experts
    evenly = (np.arange(len(nowhere)) % experts).astype(np.uint8)
    probe = Probe(0, evenly, nowhere > 0, np.zeros((groups, experts)), np.zeros((experts, experts)))
    return Scene(History(start), start, probe, task, thresholds)


def _as_object(texts: dict[str, str]) -> str:
    """JSON texts by name as one JSON object."""
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}"


def _with_tokens(template: str, task: Task) -> str:
    figure: dict[str, Any] = json.loads(template)
    positions, groups = task.held_out.positions, task.held_out.batch.groups.tolist()
    assert positions is not None
    figure["data"][0] |= {
        "x": positions[:, 0].round(4).tolist(),
        "y": positions[:, 1].round(4).tolist(),
        "customdata": [task.group_names[group] for group in groups],
    }
    return json.dumps({"routing_map": figure})
