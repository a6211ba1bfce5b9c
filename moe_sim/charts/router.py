"""Charts of the router: the mechanism's effect, gradients, logits, noise."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure, expert_axis, expert_names, share_bars, signal_line
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.scene import Scene


def preference(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The router's own preference beside the selection. They agree under a balancing loss, and differ where the
    selection balances."""
    palette = PALETTES[theme]
    columns = (
        ("preferred_load", "the router's own top-k", palette.muted),
        ("load", "as selected", palette.accent),
    )
    return share_bars(scene, theme, "Preference and selection", columns)


def selection_bias(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The bias added to each expert's probability when experts are selected."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    figure = blank_figure(
        palette, "Selection bias", "added to probabilities",
        xaxis=expert_axis(num_experts), yaxis=dict(title="bias", zeroline=True, zerolinecolor=palette.muted),
        only={"balancing": "bias"},
    )  # fmt: skip
    bias = scene.history.last("selection_bias") if scene.started else np.zeros(num_experts)
    figure.add_bar(
        x=expert_names(num_experts), y=bias, name="bias", marker_color=palette.expert_colours(num_experts),
        meta={"kind": "plain", "column": "selection_bias"}, hovertemplate="expert %{x}: %{y:+.3f}<extra></extra>",
    )  # fmt: skip
    return figure


def loss_share(scene: Scene, theme: Theme = "light") -> go.Figure:
    """What α times its loss adds to the total loss, in percent of it."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Weight of the balancing loss", "α × loss, as a share of the total loss", time=True,
        yaxis=dict(title="share, %", rangemode="tozero"),
    )  # fmt: skip
    signal_line(figure, scene, "loss_share", "share of the total loss, %", palette.accent, factor=100)
    return figure


def router_gradients(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Norms of the two gradients on the router's weights: the task's, and α times the balancing loss's."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Pulls on the router", "gradient norms, log", time=True,
        yaxis=dict(title="‖gradient‖", type="log", exponentformat="power", dtick=1, range=[-5, 1]), showlegend=True,
    )  # fmt: skip
    signal_line(figure, scene, "router_task_gradient", "task", palette.ink)
    signal_line(figure, scene, "router_balance_push", "α × balancing loss", palette.accent)
    return figure


def gradient_cosine(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The cosine of the task's and the balancing loss's gradients on the router."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Do they agree?", "cosine of the two gradients", time=True,
        yaxis=dict(title="cosine", range=[-1.05, 1.05], tickvals=[-1, 0, 1], zeroline=True,
                   zerolinecolor=palette.muted),
    )  # fmt: skip
    signal_line(figure, scene, "router_gradient_cosine", "cosine", palette.ink)
    return figure


def router_logits(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The size of router logits beside the noise added to them."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Router logits", "and σ of the noise", time=True,
        yaxis=dict(title="logit", rangemode="tozero"), showlegend=True,
    )  # fmt: skip
    signal_line(figure, scene, "router_logit_max", "largest", palette.danger)
    signal_line(figure, scene, "router_logit_rms", "rms", palette.ink)
    signal_line(figure, scene, "router_noise_std", "noise σ", palette.muted, dash="dot")
    return figure
