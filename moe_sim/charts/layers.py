"""Charts of all layers at once; only runs with several layers have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import UTILIZATION_CAPTIONS, blank_figure, expert_axis, expert_names, share_scale, steps_of
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.scene import Scene
from moe_sim.config.words import percent
from moe_sim.diagnosis.verdict import SETTLING_STEPS
from moe_sim.history.series import layer_imbalances

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
FAINTEST = 0.45
"""The opacity of the first layer's line; that of the last is 1."""
DEAD = "✕"
NUMBERS_UP_TO = 16
"""The most experts whose cells have room for a number."""
BRIGHTEST = 4
"""Multiples of 1/E from which a cell has the full colour."""


def experts_by_layer(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Layers × experts: the smoothed load as colour, dead experts with a cross."""
    palette, run = PALETTES[theme], scene.run
    layers, num_experts = run.num_layers, scene.config.num_experts
    load = run.last("smoothed_load") if scene.started else np.array([
        scene.routing.layer(index).first_choices() for index in range(layers)
    ])  # fmt: skip
    captions = (UTILIZATION_CAPTIONS[0], f"share of each layer's token choices · {DEAD} dead")
    figure = blank_figure(
        palette, "Experts by layer", captions[scene.started], hovermode="closest", all_layers=True,
        xaxis=expert_axis(num_experts), margin=dict(l=54, r=34, t=8, b=44),
        yaxis=dict(title="layer", type="category", autorange="reversed", showgrid=False, ticks=""),
    )  # fmt: skip
    figure.update_layout(meta={**figure.layout.meta, "captions": captions})
    settled = len(run) >= SETTLING_STEPS
    words = [
        [_in_words(share, num_experts, settled and share < scene.thresholds.dead_share / num_experts) for share in row]
        for row in load.tolist()
    ]
    figure.add_heatmap(
        x=expert_names(num_experts), y=expert_names(layers), z=100 * load, text=words, texttemplate="%{text}",
        zmin=0, zmax=100 * min(1.0, BRIGHTEST / num_experts), xgap=2, ygap=2, colorscale=share_scale(palette),
        showscale=False, meta={"kind": "layers", "numbers": num_experts <= NUMBERS_UP_TO, "dead": DEAD},
        hovertemplate="layer %{y}, expert %{x}: %{z:.1f} %<extra></extra>",
    )  # fmt: skip
    return figure


def ratio_lines(figure: go.Figure, scene: Scene, colour: str, infinity: float) -> None:
    """Draw max/min of the smoothed load of every layer; ∞ at `infinity`."""
    layers = scene.run.num_layers
    for index, ratio in enumerate(layer_imbalances(scene.run).T):
        name = f"layer {index + 1}"
        opacity = FAINTEST + (1 - FAINTEST) * index / max(1, layers - 1)
        line: dict[str, Any] = dict(color=colour, width=2, dash=DASHES[index])
        figure.add_scatter(
            x=steps_of(scene), y=np.where(np.isfinite(ratio), ratio, infinity), mode="lines", name=name,
            text=["∞" if np.isinf(value) else f"{value:.3g}" for value in ratio], line=line, opacity=opacity,
            meta={"kind": "layer_ratio", "layer": index, "infinity": infinity},
            hovertemplate=f"{name} %{{text}}<extra></extra>",
        )  # fmt: skip


def _in_words(share: float, num_experts: int, is_dead: bool) -> str:
    if is_dead:
        return DEAD
    return percent(share) if num_experts <= NUMBERS_UP_TO else ""
