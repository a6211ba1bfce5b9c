"""The charts as they are before the first step: this is what a page is sent, and the stream fills them.

Drawing them takes a third of a second of a core, and many visitors begin with the same run: a class opens one link.
They are drawn once for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import plotly.graph_objects as go

from moe_sim import RunConfig, Trainer
from moe_sim.charts import Scene, page_figures
from moe_sim.charts.compare import comparison_figures
from moe_sim.history import History
from moe_sim.palette import Theme
from moe_sim.thresholds import Thresholds

KEPT = 32
"""Pages' worth of figures that are remembered, about a megabyte each."""


@lru_cache(KEPT)
def blank_page(start: RunConfig, config: RunConfig, thresholds: Thresholds, theme: Theme) -> dict[str, Any]:
    """The live page's figures as JSON values, by name; not to be changed, for others get the same.

    Args:
        start: the run's configuration at step 0.
        config: what it is now.
        thresholds: the lines that figures show.
        theme: the colours.
    """
    return _as_json(page_figures(_scene(start, config, thresholds), theme))


@lru_cache(KEPT)
def blank_comparison(
    runs: tuple[tuple[RunConfig, RunConfig], ...], thresholds: Thresholds, theme: Theme
) -> dict[str, Any]:
    """The same for runs side by side, each given as its `start` and `config`."""
    return _as_json(comparison_figures([_scene(*run, thresholds) for run in runs], theme))


def _scene(start: RunConfig, config: RunConfig, thresholds: Thresholds) -> Scene:
    trainer = Trainer(start)
    return Scene(History(start), config, trainer.probe(), trainer.task, thresholds)


def _as_json(figures: Mapping[str, go.Figure]) -> dict[str, Any]:
    return {name: json.loads(figure.to_json()) for name, figure in figures.items()}
