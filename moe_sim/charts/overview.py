"""The charts of the first screen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import (
    UTILIZATION_CAPTIONS,
    blank_figure,
    capacity_limit,
    capacity_share,
    expert_axis,
    expert_names,
    share_scale,
    signal_line,
    steps_of,
)
from moe_sim.charts.layers import ratio_lines
from moe_sim.charts.palette import PALETTES, Palette, Theme
from moe_sim.charts.scene import Scene
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import power_of_ten
from moe_sim.diagnosis.verdict import SETTLING_STEPS
from moe_sim.history.series import smoothed_imbalance
from moe_sim.metrics import SMOOTHING_HORIZON, dead_experts

STACKED_UP_TO = 16
"""The most experts that a stacked area can show; beyond it a heatmap."""
SHARE_AXIS_TOPS = (5, 10, 20, 30, 50, 75, 104)
"""The possible ends of a share axis, in percent."""
SHARE_AXIS_HEADROOM = 1.04
SHARE_AXIS_LEAST = 2.5
"""A share axis always reaches at least this far, in multiples of 1/E."""


def utilization(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Bars of the smoothed load with the healthy band, the uniform share, the capacity limit and labels. At
    step 0, where there is no load yet, the first choices of the held-out tokens."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    load = scene.history.last("smoothed_load") if scene.started else scene.probe.first_choices()
    lines = scene.thresholds
    top = share_axis_top([*load, capacity_share(scene.config) or 0], num_experts)
    figure = blank_figure(
        palette, "Expert utilization", UTILIZATION_CAPTIONS[scene.started],
        xaxis=expert_axis(num_experts), yaxis=dict(title="share, %", rangemode="tozero", range=[0, top]),
        margin=dict(l=54, r=34, t=10, b=60),
    )  # fmt: skip
    labelled = num_experts <= STACKED_UP_TO
    rule = {"tops": SHARE_AXIS_TOPS, "headroom": SHARE_AXIS_HEADROOM, "least": 100 * SHARE_AXIS_LEAST / num_experts}
    figure.update_layout(meta={
        **figure.layout.meta, "captions": UTILIZATION_CAPTIONS, "share_axis": rule, "bar_labels": labelled,
    })  # fmt: skip
    if labelled:
        figure.update_xaxes(tickvals=expert_names(num_experts), ticktext=_bar_labels(scene, load, palette))
    figure.add_bar(
        x=expert_names(num_experts), y=100 * load, name="share", meta={"kind": "now", "column": "smoothed_load"},
        marker_color=palette.expert_colours(num_experts), hovertemplate="expert %{x}: %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    uniform = 100 / num_experts
    low, high = uniform * lines.healthy_low, uniform * lines.healthy_high
    figure.add_hrect(y0=low, y1=high, fillcolor=palette.accent, opacity=0.09, line_width=0, layer="below")
    figure.add_hline(y=uniform, line=dict(color=palette.accent, dash="dot", width=1.5))
    figure.add_annotation(x=1, xref="paper", xanchor="left", xshift=4, y=uniform, text="even", showarrow=False,
                          font=dict(color=palette.accent, size=12))  # fmt: skip
    capacity_limit(figure, scene.config, "capacity limit", palette.danger)
    return figure


def imbalance(scene: Scene, theme: Theme = "light") -> go.Figure:
    """max/min of the smoothed load on a log axis, a line for each layer; ∞ where an expert got no tokens."""
    palette = PALETTES[theme]
    top, healthy = infinity_level(scene.config), scene.thresholds.healthy_ratio
    decades = range(1, round(np.log10(top)))
    figure = blank_figure(
        palette, "Imbalance ratio", f"max / min, log · band: up to {healthy:.3g}", time=True,
        plain={"caption": "fine in the band", "yaxis": "busiest ÷ idlest"},
        yaxis=dict(
            title="max / min", type="log", range=[-0.08, np.log10(top) + 0.12],
            tickvals=[1, *(10**i for i in decades), top],
            ticktext=["1", *(power_of_ten(i) for i in decades), "∞"],
        ),
    )  # fmt: skip
    figure.add_hrect(y0=1, y1=healthy, fillcolor=palette.accent, opacity=0.09, line_width=0, layer="below")
    if scene.run.num_layers > 1:
        ratio_lines(figure, scene, palette.ink, top)
        return figure.update_layout(showlegend=True, meta={**figure.layout.meta, "all_layers": True})
    ratio = smoothed_imbalance(scene.history)
    figure.add_scatter(
        x=steps_of(scene), y=np.where(np.isfinite(ratio), ratio, top), mode="lines", name="max / min",
        text=["∞" if np.isinf(value) else f"{value:.3g}" for value in ratio],
        line=dict(color=palette.ink, width=2), meta={"kind": "ratio", "column": "imbalance", "infinity": top},
        hovertemplate="max / min %{text}<extra></extra>",
    )  # fmt: skip
    return figure


def task_and_balance_loss(scene: Scene, theme: Theme = "light") -> go.Figure:
    """The task loss (smoothed, over its faint single steps) and the load-balancing loss, each on its own axis; dotted,
    the loss that α weighs, where it is another one."""
    palette, history = PALETTES[theme], scene.history
    figure = blank_figure(
        palette, "Task and load-balancing loss", f"task: {SMOOTHING_HORIZON}-step mean", time=True,
        plain={"caption": "lower is better", "yaxis": "task loss", "yaxis2": "load-balancing loss"},
        yaxis=dict(title="task loss, nats", color=palette.ink),
        yaxis2=dict(title=dict(text="load-balancing loss E·Σ f·P", font_color=palette.accent), overlaying="y",
                    side="right", showgrid=False, tickfont_color=palette.accent, tickmode="auto", nticks=5),
    )  # fmt: skip
    task_loss = history.column("task_loss")
    figure.add_scatter(
        x=steps_of(scene), y=task_loss, mode="lines", line=dict(color=palette.ink, width=1), opacity=0.22,
        name="task, each step", hoverinfo="skip", meta={"kind": "rows", "column": "task_loss"},
    )  # fmt: skip
    for kind, column, values, colour, axis in (
        ("smoothed", "task_loss", smooth(task_loss), palette.ink, "y"),
        ("rows", "balance_loss", history.column("balance_loss"), palette.accent, "y2"),
    ):
        words = column.replace("_", " ")
        figure.add_scatter(
            x=steps_of(scene), y=values, mode="lines", line=dict(color=colour, width=2.2), yaxis=axis, name=words,
            meta={"kind": kind, "column": column},
            hovertemplate=f"{words} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    signal_line(figure, scene, "other_loss", "loss that α weighs", palette.accent, dash="dot", yaxis="y2")
    return figure


def utilization_over_time(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Stacked shares of the smoothed load up to 16 experts; a heatmap beyond."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    load = scene.history.column("smoothed_load")
    if num_experts > STACKED_UP_TO:
        figure = blank_figure(
            palette, "Utilization over time", "share of token choices, % · strong colour: busy", time=True,
            hovermode="closest", yaxis=dict(title="expert", range=[num_experts + 0.5, 0.5], showgrid=False),
        )  # fmt: skip
        figure.add_heatmap(
            x=steps_of(scene), y=list(range(1, num_experts + 1)), z=100 * load.T, zmin=0, zmax=400 / num_experts,
            colorscale=share_scale(palette), showscale=False, meta={"kind": "heat", "column": "smoothed_load"},
            hovertemplate="step %{x}, expert %{y}: %{z:.1f} %<extra></extra>",
        )  # fmt: skip
        return figure
    figure = blank_figure(
        palette, "Utilization over time", "share of token choices", time=True,
        yaxis=dict(title="share, %", range=[0, 100], tickvals=[0, 25, 50, 75, 100]),
    )  # fmt: skip
    for expert, colour in enumerate(palette.expert_colours(num_experts)):
        figure.add_scatter(
            x=steps_of(scene), y=100 * load[:, expert], stackgroup="load", mode="lines", fillcolor=colour,
            line=dict(width=0.6, color=palette.background), name=f"expert {expert + 1}",
            meta={"kind": "expert", "column": "smoothed_load", "expert": expert},
            hovertemplate=f"expert {expert + 1} %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    return figure


def routing_map(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Held-out tokens near their topics, coloured by the expert that gets them now; hollow when dropped.

    Raises:
        ValueError: for a task without positions (text), which shows passages instead.
    """
    palette, probe, positions = PALETTES[theme], scene.probe, scene.held_out.positions
    if positions is None:
        raise ValueError("this task has no routing map; show its passages instead")
    groups = scene.held_out.batch.groups.numpy()
    palette_of_experts = palette.expert_colours(scene.config.num_experts)
    colours = np.array(palette_of_experts)[probe.expert]
    edge = dict(width=np.where(probe.dropped, 1.6, 0.5), color=np.where(probe.dropped, colours, palette.background))
    figure = blank_figure(
        palette, "Routing map", "Each dot is a token. Its colour is the expert that gets it.",
        xaxis=dict(visible=False, range=[-1.14, 1.14]),
        yaxis=dict(visible=False, range=[-1.14, 1.14]),
        margin=dict(l=4, r=4, t=4, b=4),
    )  # fmt: skip
    figure.add_scatter(
        x=positions[:, 0], y=positions[:, 1], mode="markers", name="token",
        customdata=[scene.task.group_names[group] for group in groups],
        text=[f"expert {expert + 1}" for expert in probe.expert],
        marker=dict(size=8, color=np.where(probe.dropped, palette.background, colours), line=edge),
        meta={"kind": "map", "colours": palette_of_experts}, hovertemplate="%{customdata} → %{text}<extra></extra>",
    )  # fmt: skip
    return figure


def infinity_level(config: RunConfig) -> float:
    """The height of ∞ on the log axis of the imbalance ratio: a decade that no finite smoothed ratio can reach."""
    return float(10 ** np.ceil(np.log10(2 * SMOOTHING_HORIZON * config.batch_tokens * 8)))


def smooth(values: np.ndarray) -> np.ndarray:
    """Exponential moving average with a horizon of h = 20 steps, corrected for its start: the mean of all values so
    far, with a weight of (1 − 1/h)^age each. Of (n,) values, (n,).

    The page continues it step by step (`extendSmoothed` in pages/dashboard/js/store.js).
    """
    if not len(values):
        return values
    import pandas as pd  # here: it takes two seconds to load, and a live page does not need it

    return pd.Series(values).ewm(alpha=1 / SMOOTHING_HORIZON).mean().to_numpy()


def _bar_labels(scene: Scene, load: np.ndarray, palette: Palette) -> list[str]:
    """Under each bar its expert's number and its share. The dead experts are the least used ones, as many as
    `dead_experts` counts; none is called dead before the average has settled."""
    count = dead_experts(load, scene.thresholds.dead_share) if len(scene.history) >= SETTLING_STEPS else 0
    dead = set(load.argsort()[:count].tolist())
    words = [
        f'<span style="color:{palette.danger}">dead</span>' if expert in dead else
        f'<span style="color:{palette.ink}">{100 * share:.0f} %</span>'
        for expert, share in enumerate(load)
    ]  # fmt: skip
    return [f"{name}<br>{word}" for name, word in zip(expert_names(len(load)), words, strict=True)]


def share_axis_top(shares: Sequence[float], num_experts: int) -> float:
    """The end of a share axis, in percent: the first of `SHARE_AXIS_TOPS` above everything that it shows."""
    needed = 100 * max(SHARE_AXIS_HEADROOM * max(shares), SHARE_AXIS_LEAST / num_experts)
    return float(next((top for top in SHARE_AXIS_TOPS if top >= needed), SHARE_AXIS_TOPS[-1]))
