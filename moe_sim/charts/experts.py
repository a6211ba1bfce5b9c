"""The charts of the second row of views."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import (
    blank_figure,
    capacity_limit,
    expert_axis,
    expert_names,
    share_bars,
    share_scale,
    steps_of,
)
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.scene import Scene
from moe_sim.history.columns import COARSE
from moe_sim.history.series import coarse_mean, recent_mean
from moe_sim.metrics import SMOOTHING_HORIZON


def load_and_importance(scene: Scene, theme: Theme = "light") -> go.Figure:
    """f beside P for every expert, means of the last 20 steps."""
    palette = PALETTES[theme]
    columns = (
        ("load", "load f (counted)", palette.ink),
        ("importance", "importance P (probability)", palette.accent),
    )
    return share_bars(scene, theme, "Load f and importance P", columns)


def specialization(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Groups × experts: the share of a group's tokens whose first choice is the expert, smoothed."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    noun = scene.task.group_noun
    figure = blank_figure(
        palette, "Specialization", f"share of each {noun}'s tokens by first-choice expert, %",
        xaxis=expert_axis(num_experts), margin=dict(l=100, r=12, t=8, b=44),
        yaxis=dict(autorange="reversed", showgrid=False, ticks=""),
    )  # fmt: skip
    figure.add_heatmap(
        x=expert_names(num_experts), y=list(scene.task.group_names), z=100 * scene.probe.group_shares(),
        zmin=0, zmax=100, xgap=2, ygap=2,
        colorscale=share_scale(palette), colorbar=dict(thickness=10, outlinewidth=0, ticksuffix=" %", nticks=5),
        meta={"kind": "joint"}, hovertemplate="%{y} → expert %{x}: %{z:.0f} %<extra></extra>",
    )  # fmt: skip
    return figure


def feedback_share(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The start of the feedback loop: the token share of every expert."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Token share", "smoothed", time=True, yaxis=dict(title="share, %", rangemode="tozero")
    )
    for expert, colour in enumerate(palette.expert_colours(scene.config.num_experts)):
        figure.add_scatter(
            x=steps_of(scene), y=100 * scene.history.column("smoothed_load")[:, expert], mode="lines",
            line=dict(width=1.8, color=colour), name=f"expert {expert + 1}",
            meta={"kind": "expert", "column": "smoothed_load", "expert": expert},
            hovertemplate=f"expert {expert + 1} %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    return figure


def feedback_grad_norm(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Token share → gradient norm."""
    return _feedback(scene, theme, "grad_norm", "Gradient norm", "of its weights, log", "‖gradient‖", log=True)


def feedback_weight_change(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Gradient norm → weight change."""
    return _feedback(scene, theme, "weight_change", "Weight change", "per step, log", "‖Δw‖ / ‖w‖", log=True)


def feedback_weight_distance(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Weight change → how far the weights have moved; a dead expert's stand still."""
    axis = "‖w − w₀‖ / ‖w₀‖"
    return _feedback(scene, theme, "weight_distance", "Distance covered", "since step 0", axis, log=False)


def _feedback(
    scene: Scene, theme: Theme, column: str, title: str, caption: str, axis: str, *, log: bool
) -> go.Figure:  # fmt: skip
    """A per-expert quantity in blocks of ten steps, a line for each expert."""
    palette, values = PALETTES[theme], coarse_mean(scene.history, column)
    logarithmic = dict(type="log", exponentformat="power", dtick=1, range=[-6, 0.5])
    figure = blank_figure(
        palette, title, caption, time=True, yaxis=dict(title=axis, **(logarithmic if log else {"rangemode": "tozero"}))
    )
    for expert, colour in enumerate(palette.expert_colours(scene.config.num_experts)):
        figure.add_scatter(
            x=COARSE * np.arange(1, len(values) + 1), y=np.where(values[:, expert] > 0, values[:, expert], np.nan),
            mode="lines", line=dict(width=1.8, color=colour), name=f"expert {expert + 1}",
            meta={"kind": "coarse", "column": column, "expert": expert},
            hovertemplate=f"expert {expert + 1} %{{y:.2e}}<extra></extra>",
        )  # fmt: skip
    return figure


def capacity(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The demand of every expert, split into processed and dropped token choices, with the capacity limit."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    processed = recent_mean(scene.history, "processed")
    dropped = recent_mean(scene.history, "load") - processed
    figure = blank_figure(
        palette, "Demand and capacity", f"mean of the last {SMOOTHING_HORIZON} steps", barmode="stack",
        xaxis=expert_axis(num_experts), yaxis=dict(title="share of token choices, %", rangemode="tozero"),
        showlegend=True, bargap=0.25,
    )  # fmt: skip
    figure.add_bar(
        x=expert_names(num_experts), y=100 * processed, name="processed", meta={"kind": "now", "column": "processed"},
        marker_color=palette.accent, hovertemplate="expert %{x}: %{y:.1f} % processed<extra></extra>",
    )  # fmt: skip
    figure.add_bar(
        x=expert_names(num_experts), y=100 * dropped, name="dropped", meta={"kind": "now", "column": "dropped"},
        marker=dict(color=palette.danger_ground, line=dict(color=palette.danger, width=1.5)),
        hovertemplate="expert %{x}: %{y:.1f} % dropped<extra></extra>",
    )  # fmt: skip
    capacity_limit(figure, scene.config, "limit", palette.ink)
    return figure
