"""Charts of the consequences of routing for devices and inference, and of its variance."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure, expert_axis, expert_names, share_scale, signal_line
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.scene import Scene
from moe_sim.history.columns import MOST_CHOICES
from moe_sim.history.series import evaluations, recent_mean, sampling_std
from moe_sim.metrics import SMOOTHING_HORIZON

CHOICES = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th")


def dropped_by_choice(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The share of the first, second … choices that is dropped for lack of capacity."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Dropped by choice", "1st, 2nd … choices without room",
        xaxis=dict(title="choice", type="category", showgrid=False), yaxis=dict(title="dropped, %", range=[0, 104]),
    )  # fmt: skip
    figure.add_bar(
        x=CHOICES[:MOST_CHOICES], y=100 * recent_mean(scene.history, "dropped_by_choice"), name="dropped",
        marker=dict(color=palette.danger_ground, line=dict(color=palette.danger, width=1.5)),
        meta={"kind": "choices", "column": "dropped_by_choice"},
        hovertemplate="%{x} choices: %{y:.1f} % dropped<extra></extra>",
    )  # fmt: skip
    return figure


def devices(scene: Scene, theme: Theme = "light") -> go.Figure:
    """One expert per device: how long each device works in a step, and how long it waits for the busiest one."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    busy = num_experts * recent_mean(scene.history, "processed")
    figure = blank_figure(
        palette, "One expert per device", "modelled; 1 is a balanced step", barmode="stack",
        xaxis=dict(title="time, in balanced steps", rangemode="tozero"), bargap=0.25, showlegend=True,
        yaxis={**expert_axis(num_experts), "title": "device of expert", "autorange": "reversed"},
    )  # fmt: skip
    for values, name, colours, meta in (
        (busy, "works", palette.accent, {"kind": "devices", "column": "processed"}),
        (busy.max(initial=0) - busy, "waits", palette.hairline, {"kind": "devices", "column": "idle"}),
    ):
        figure.add_bar(
            y=expert_names(num_experts), x=values, name=name, orientation="h", marker_color=colours, meta=meta,
            hovertemplate=f"device %{{y}} {name} %{{x:.2f}}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=1, line=dict(color=palette.ink, dash="dot", width=1.5))
    return figure


def step_time(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The modelled step time over the run."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Modelled step time", "in balanced steps", time=True,
        yaxis=dict(title="× balanced", rangemode="tozero"),
    )  # fmt: skip
    figure.add_hline(y=1, line=dict(color=palette.accent, dash="dot", width=1.5))
    signal_line(figure, scene, "step_time", "step time", palette.ink)
    return figure


def routing_std(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The variation of an expert's load from batch to batch, beside the chance level of a finite batch."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Variance of routing", f"std of the load over {SMOOTHING_HORIZON} batches, mean of all experts",
        time=True, yaxis=dict(title="percentage points", rangemode="tozero"),
    )  # fmt: skip
    at_random = 100 * sampling_std(scene.config)
    figure.add_hline(y=at_random, line=dict(color=palette.accent, dash="dot", width=1.5))
    figure.add_annotation(x=1, xref="paper", xanchor="right", y=at_random, yanchor="bottom", text="at random",
                          showarrow=False, font=dict(color=palette.accent, size=12))  # fmt: skip
    signal_line(figure, scene, "routing_std", "standard deviation", palette.ink, factor=100)
    return figure


def coactivation(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Experts × experts: the share of an expert's tokens that another expert also has, smoothed; empty diagonal."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    figure = blank_figure(
        palette, "Co-activation", "share of an expert's tokens (row) that another expert (column) also has, %",
        xaxis=expert_axis(num_experts), yaxis={**expert_axis(num_experts), "autorange": "reversed"},
        margin=dict(l=54, r=12, t=8, b=44),
    )  # fmt: skip
    figure.add_heatmap(
        x=expert_names(num_experts), y=expert_names(num_experts), z=coactivation_percent(scene), zmin=0, zmax=100,
        xgap=2, ygap=2, hoverongaps=False, colorscale=share_scale(palette), meta={"kind": "together"},
        colorbar=dict(thickness=10, outlinewidth=0, ticksuffix=" %", nticks=5),
        hovertemplate="of the tokens of expert %{y}, %{z:.0f} % have expert %{x} too<extra></extra>",
    )  # fmt: skip
    return figure


def coactivation_percent(scene: Scene) -> np.ndarray:
    """(E, E) percents with NaN on the diagonal."""
    percent = 100 * scene.probe.coactivation()
    np.fill_diagonal(percent, np.nan)
    return percent


def inference_load(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Load in training beside load in inference on held-out tokens."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    figure = blank_figure(
        palette, "Training and inference", "share of token choices",
        xaxis=expert_axis(num_experts), yaxis=dict(title="share, %", rangemode="tozero"),
        barmode="group", bargap=0.25, showlegend=True,
    )  # fmt: skip
    seen = evaluations(scene.history, "eval_load")
    inference = seen[-1] if len(seen) else np.zeros(num_experts)
    for values, column, name, colour in (
        (recent_mean(scene.history, "load"), "load", "training", palette.muted),
        (inference, "eval_load", "inference", palette.accent),
    ):
        figure.add_bar(
            x=expert_names(num_experts), y=100 * values, name=name, marker_color=colour,
            meta={"kind": "now", "column": column}, hovertemplate=f"expert %{{x}}: {name} %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=100 / num_experts, line=dict(color=palette.muted, dash="dot", width=1.5))
    return figure


def inference_loss(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Task loss and largest load in inference, over the run."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Inference over time", "loss and largest load", time=True, showlegend=True,
        yaxis=dict(title="task loss, nats", color=palette.ink),
        yaxis2=dict(title=dict(text="largest load, %", font_color=palette.accent), overlaying="y", side="right",
                    showgrid=False, tickfont_color=palette.accent, range=[0, 104], tickvals=[0, 25, 50, 75, 100]),
    )  # fmt: skip
    signal_line(figure, scene, "eval_task_loss", "task loss", palette.ink)
    signal_line(figure, scene, "eval_limited_loss", "with capacity, mixed", palette.muted)
    signal_line(figure, scene, "eval_sorted_loss", "with capacity, sorted", palette.muted, dash="dot")
    signal_line(figure, scene, "eval_max_load", "largest load", palette.accent, factor=100, yaxis="y2")
    return figure
