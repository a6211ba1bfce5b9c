"""The pages' figures before the first step, as JSON; the browser fills them from the stream.

Drawing one takes some 15 ms, but they depend on few knobs: each is drawn once for a combination of these, and cached.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from moe_sim.charts.compare import comparison_figures
from moe_sim.charts.page import PAGE_FIGURES, figure_names
from moe_sim.charts.palette import Theme
from moe_sim.charts.scene import Scene
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.tasks.catalogue import make_task
from moe_sim.tasks.task import Task

SHAPE = ("task", "num_layers", "num_experts", "top_k", "capacity_factor", "batch_tokens", "num_topics")
"""The knobs that determine the empty figures, except for the token positions on the routing map."""


def blank_figures(
    names: Iterable[str], config: RunConfig, task: Task, theme: Theme, thresholds: Thresholds
) -> dict[str, str]:
    """Figures as JSON, by name.

    Args:
        names: figures of the page; a routing map that the task does not have is left out, and so is a chart of all
            layers of a run with one.
        config: the run's configuration at step 0.
        task: the run's task.
        theme: the page's theme.
        thresholds: the visitor's thresholds.
    """
    shape = RunConfig(**{name: getattr(config, name) for name in SHAPE})
    there = figure_names(_blank_scene(shape, thresholds))
    figures = {name: _figure(name, shape, theme, thresholds) for name in names if name in there}
    if "routing_map" in figures:
        figures["routing_map"] = _with_tokens(figures["routing_map"], task)
    return figures


@lru_cache(maxsize=32)
def blank_comparison(starts: tuple[RunConfig, ...], theme: Theme, thresholds: Thresholds) -> dict[str, str]:
    """The same for the runs of a comparison, by their configurations at step 0."""
    scenes = [_blank_scene(start, thresholds) for start in starts]
    return {name: str(figure.to_json()) for name, figure in comparison_figures(scenes, theme).items()}


@lru_cache(maxsize=1024)
def _figure(name: str, shape: RunConfig, theme: Theme, thresholds: Thresholds) -> str:
    """A figure of runs of a shape; a routing map with the tokens of the default seed."""
    return str(PAGE_FIGURES[name](_blank_scene(shape, thresholds), theme).to_json())


@lru_cache(maxsize=64)
def _blank_scene(start: RunConfig, thresholds: Thresholds) -> Scene:
    task = make_task(start)
    nowhere = np.zeros(len(task.held_out.batch.labels), dtype=np.uint8)
    groups, experts = len(task.group_names), start.num_experts
    evenly = (np.arange(len(nowhere)) % experts).astype(np.uint8)
    layers = start.num_layers
    first, dropped = (np.tile(one, (layers, 1)) for one in (evenly, nowhere > 0))
    probe = Probe(0, first, dropped, np.zeros((layers, groups, experts)), np.zeros((layers, experts, experts)))
    return Scene(History(start), start, probe, task, thresholds)


def _with_tokens(template: str, task: Task) -> str:
    figure: dict[str, Any] = json.loads(template)
    positions, groups = task.held_out.positions, task.held_out.batch.groups.tolist()
    assert positions is not None
    figure["data"][0] |= {
        "x": positions[:, 0].round(4).tolist(),
        "y": positions[:, 1].round(4).tolist(),
        "customdata": [task.group_names[group] for group in groups],
    }
    return json.dumps(figure)
