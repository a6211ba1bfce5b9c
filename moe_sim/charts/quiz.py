"""The small charts of the quiz."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure, expert_axis, expert_names
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.teaching.quiz.question import Plot


def plot_figure(plot: Plot, theme: Theme = "light") -> go.Figure:
    """Bars, one per expert, or a line over steps."""
    palette, count = PALETTES[theme], len(plot.values)
    if plot.kind == "bars":
        figure = blank_figure(
            palette, plot.label, "", xaxis=expert_axis(count), yaxis=dict(title=plot.label, rangemode="tozero")
        )
        figure.add_bar(
            x=expert_names(count), y=plot.values, marker_color=palette.expert_colours(count), name=plot.label,
            hovertemplate="expert %{x}: %{y:.1f}<extra></extra>",
        )  # fmt: skip
    else:
        figure = blank_figure(palette, plot.label, "", time=True, yaxis=dict(title=plot.label))
        figure.add_scatter(
            x=np.arange(1, count + 1), y=plot.values, mode="lines", line=dict(color=palette.ink, width=2),
            name=plot.label, hovertemplate="step %{x}: %{y:.3g}<extra></extra>",
        )  # fmt: skip
    if plot.reference is not None:
        figure.add_hline(y=plot.reference, line=dict(color=palette.accent, dash="dot", width=1.5))
    return figure.update_layout(title=None, height=210)
