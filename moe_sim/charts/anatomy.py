"""Charts of the parts of the load-balancing loss."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure, expert_axis, expert_names
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.teaching.loss_anatomy import Anatomy


def shares(load: np.ndarray, importance: np.ndarray, theme: Theme = "light") -> go.Figure:
    """f beside P, with the uniform share as a line."""
    palette, num_experts = PALETTES[theme], len(load)
    figure = blank_figure(
        palette, "f and P", "", xaxis=expert_axis(num_experts), barmode="group", bargap=0.25, showlegend=True,
        yaxis=dict(title="share, %", range=[0, 104]),
    )  # fmt: skip
    for values, name, colour in ((load, "load f", palette.ink), (importance, "importance P", palette.accent)):
        figure.add_bar(
            x=expert_names(num_experts), y=100 * values, name=name, marker_color=colour,
            hovertemplate=f"expert %{{x}}: {name} %{{y:.2f}} %<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=100 / num_experts, line=dict(color=palette.muted, dash="dot", width=1.5))
    return figure


def terms(anatomy: Anatomy, theme: Theme = "light") -> go.Figure:
    """E·f_i·P_i, the terms whose sum is the loss."""
    palette, num_experts = PALETTES[theme], len(anatomy.terms)
    figure = blank_figure(
        palette, "Terms", "", xaxis=expert_axis(num_experts), bargap=0.25,
        yaxis=dict(title="E·f·P", rangemode="tozero"),
    )  # fmt: skip
    figure.add_bar(
        x=expert_names(num_experts), y=num_experts * anatomy.terms, name="E·f·P",
        marker_color=palette.expert_colours(num_experts), hovertemplate="expert %{x}: %{y:.3f}<extra></extra>",
    )  # fmt: skip
    return figure


def gradient(anatomy: Anatomy, theme: Theme = "light") -> go.Figure:
    """∂L/∂P_i = E·f_i, how hard each P is pushed down; 1 at balance."""
    palette, num_experts = PALETTES[theme], len(anatomy.gradient)
    figure = blank_figure(
        palette, "Gradient on P", "", xaxis=expert_axis(num_experts), bargap=0.25,
        yaxis=dict(title="∂L/∂P = E·f", rangemode="tozero"),
    )  # fmt: skip
    figure.add_bar(
        x=expert_names(num_experts), y=anatomy.gradient, name="gradient", marker_color=palette.danger,
        hovertemplate="expert %{x}: %{y:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_hline(y=1, line=dict(color=palette.muted, dash="dot", width=1.5))
    return figure
