"""History → Plotly figures: pure functions, the same for page, export, notebook and README.

Each trace says in `meta` which quantity it shows. That is how the live page, which gets the figures once, keeps them up
to date from the stream (pages/dashboard/bindings.js):

- `{"rows": column, "index": i, "smooth": n}`: y over steps, expert i of a per-expert column, mean of the last n steps
- `{"coarse": column, "index": i}`: the same in blocks of ten steps
- `{"heat": column}`: z, experts × steps
- `{"now": column}`: one value an expert, as they are now
- `{"limit": true}`: the capacity limit; `{"joint": true}`: group × expert; `{"map": true}`: the held-out tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from moe_sim.config import RunConfig
from moe_sim.diagnosis import DEAD_SHARE, HEALTHY_BAND, SETTLING_STEPS
from moe_sim.history import History
from moe_sim.metrics import SMOOTHING_HORIZON
from moe_sim.palette import PALETTES, Palette, Theme
from moe_sim.stream import COARSE, coarse_mean, label, recent_mean, smoothed_imbalance
from moe_sim.tasks import HeldOut, Task
from moe_sim.trainer import Probe, Trainer

STACKED_UP_TO = 16
"""Experts that a stacked area can show; beyond it a heatmap."""
FONT = '"Source Sans", "Source Sans Pro", sans-serif'


@dataclass(frozen=True)
class Scene:
    """All that there is to draw of a run at one moment."""

    history: History
    config: RunConfig
    probe: Probe
    task: Task

    @classmethod
    def of(cls, trainer: Trainer) -> Scene:
        """The scene of a trainer as it is now."""
        return cls(trainer.history, trainer.config, trainer.probe(), trainer.task)

    @property
    def held_out(self) -> HeldOut:
        """The tokens of the routing map."""
        return self.task.held_out

    @property
    def started(self) -> bool:
        """Whether there is a step to show."""
        return len(self.history) > 0


def utilization(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Bars of the smoothed load with the healthy band, the uniform share and the capacity limit; dead ones labelled."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    load = scene.history.last("smoothed_load") if scene.started else np.zeros(num_experts)
    dead = load < DEAD_SHARE / num_experts if len(scene.history) >= SETTLING_STEPS else np.zeros(num_experts, bool)
    figure = _figure(
        palette, "Expert utilization", f"share of token choices, mean of about {SMOOTHING_HORIZON} steps",
        xaxis=_expert_axis(num_experts), yaxis=dict(title="share, %", rangemode="tozero", range=[0, _top(load)]),
        margin=dict(l=54, r=34, t=10, b=60),
    )  # fmt: skip
    labelled = num_experts <= STACKED_UP_TO
    if labelled and scene.started:
        figure.update_xaxes(tickvals=_names(num_experts), ticktext=_bar_labels(load, dead, palette))
    figure.add_bar(
        x=_names(num_experts), y=100 * load, name="share", meta={"now": "smoothed_load", "label": labelled},
        marker_color=palette.expert_colours(num_experts), hovertemplate="expert %{x}: %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    uniform = 100 / num_experts
    low, high = (uniform * factor for factor in HEALTHY_BAND)
    figure.add_hrect(y0=low, y1=high, fillcolor=palette.accent, opacity=0.09, line_width=0, layer="below")
    figure.add_hline(y=uniform, line=dict(color=palette.accent, dash="dot", width=1.5))
    figure.add_annotation(x=1, xref="paper", xanchor="left", xshift=4, y=uniform, text="1/E", showarrow=False,
                          font=dict(color=palette.accent, size=12))  # fmt: skip
    limit = scene.config.capacity_factor
    figure.add_scatter(
        x=_names(num_experts), y=[None if limit is None else uniform * limit] * num_experts, mode="lines",
        line=dict(color=palette.danger, width=2, dash="dash"), name="capacity limit", meta={"limit": True},
        hovertemplate="capacity limit %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    return figure


def imbalance(scene: Scene, theme: Theme = "light") -> go.Figure:
    """max/min of the smoothed load on a log axis; ∞ where an expert got nothing."""
    palette = PALETTES[theme]
    top = infinity_level(scene.config)
    decades = range(1, round(np.log10(top)))
    figure = _figure(
        palette, "Imbalance ratio", "max / min load, log scale", time=True,
        yaxis=dict(
            title="max / min", type="log", range=[-0.08, np.log10(top) + 0.12],
            tickvals=[1, 2, *(10**i for i in decades), top],
            ticktext=["1", "2", *(f"{10**i:,}".replace(",000", "k") for i in decades), "∞"],
        ),
    )  # fmt: skip
    figure.add_hrect(y0=1, y1=2, fillcolor=palette.accent, opacity=0.09, line_width=0, layer="below")
    ratio = smoothed_imbalance(scene.history)
    figure.add_scatter(
        x=_steps(scene), y=np.where(np.isfinite(ratio), ratio, top), mode="lines", name="max / min",
        text=["∞" if np.isinf(value) else f"{value:.3g}" for value in ratio],
        line=dict(color=palette.ink, width=2), meta={"rows": "imbalance", "infinity": top},
        hovertemplate="step %{x}: %{text}<extra></extra>",
    )  # fmt: skip
    return figure


def task_and_balance_loss(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Task loss and Switch's balance loss, each on its own axis, the task loss smoothed with its single steps faint behind."""
    palette, history = PALETTES[theme], scene.history
    figure = _figure(
        palette, "Task and auxiliary loss", f"task smoothed over {SMOOTHING_HORIZON} steps", time=True,
        yaxis=dict(title="task loss, nats", color=palette.ink),
        yaxis2=dict(title=dict(text="balance loss E·Σf·P", font_color=palette.accent), overlaying="y", side="right",
                    showgrid=False, tickfont_color=palette.accent, tickmode="auto", nticks=5),
    )  # fmt: skip
    task_loss = history.column("task_loss")
    figure.add_scatter(
        x=_steps(scene), y=task_loss, mode="lines", line=dict(color=palette.ink, width=1), opacity=0.22,
        name="task, each step", hoverinfo="skip", meta={"rows": "task_loss"},
    )  # fmt: skip
    for column, values, colour, axis in (
        ("task_loss", smooth(task_loss), palette.ink, "y"),
        ("balance_loss", history.column("balance_loss"), palette.accent, "y2"),
    ):
        words = column.replace("_", " ")
        figure.add_scatter(
            x=_steps(scene), y=values, mode="lines", line=dict(color=colour, width=2.2), yaxis=axis, name=words,
            meta={"rows": column} | ({"smooth": SMOOTHING_HORIZON} if axis == "y" else {}),
            hovertemplate=f"step %{{x}}: {words} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    return figure


def utilization_over_time(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Stacked shares of the smoothed load up to 16 experts; a heatmap beyond."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    load = scene.history.column("smoothed_load")
    if num_experts > STACKED_UP_TO:
        figure = _figure(
            palette, "Utilization over time", "share of token choices, % · dark is busy", time=True,
            yaxis=dict(title="expert", range=[num_experts + 0.5, 0.5], showgrid=False),
        )  # fmt: skip
        figure.add_heatmap(
            x=_steps(scene), y=list(range(1, num_experts + 1)), z=100 * load.T, zmin=0, zmax=400 / num_experts,
            colorscale=_scale(palette), showscale=False, meta={"heat": "smoothed_load"},
            hovertemplate="step %{x}, expert %{y}: %{z:.1f} %<extra></extra>",
        )  # fmt: skip
        return figure
    figure = _figure(
        palette, "Utilization over time", "share of token choices", time=True,
        yaxis=dict(title="share, %", range=[0, 100], tickvals=[0, 25, 50, 75, 100]),
    )  # fmt: skip
    for expert, colour in enumerate(palette.expert_colours(num_experts)):
        figure.add_scatter(
            x=_steps(scene), y=100 * load[:, expert], stackgroup="load", mode="lines", fillcolor=colour,
            line=dict(width=0.6, color=palette.background), name=f"expert {expert + 1}",
            meta={"rows": "smoothed_load", "index": expert, "scale": 100},
            hovertemplate=f"step %{{x}}: expert {expert + 1} %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    return figure


def routing_map(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Held-out tokens beside their topics, coloured by the expert that takes them now; hollow when dropped.

    Raises:
        ValueError: for a task without positions (text): its passages take the map's place.
    """
    palette, probe, positions = PALETTES[theme], scene.probe, scene.held_out.positions
    if positions is None:
        raise ValueError("this task has no routing map; show its passages instead")
    groups = scene.held_out.batch.groups.numpy()
    colours = np.array(palette.expert_colours(scene.config.num_experts))[probe.expert]
    figure = _figure(
        palette, "Routing map", "held-out tokens near their topic, coloured by expert",
        xaxis=dict(visible=False, range=[-1.14, 1.14]),
        yaxis=dict(visible=False, range=[-1.14, 1.14]),
        margin=dict(l=4, r=4, t=4, b=4),
    )  # fmt: skip
    figure.add_scatter(
        x=positions[:, 0], y=positions[:, 1], mode="markers", name="token",
        customdata=[scene.task.group_names[group] for group in groups],
        text=[f"expert {expert + 1}" for expert in probe.expert],
        marker=dict(size=8, color=np.where(probe.dropped, palette.background, colours),
                    line=dict(width=np.where(probe.dropped, 1.6, 0.5), color=np.where(probe.dropped, colours, palette.background))),
        meta={"map": True}, hovertemplate="%{customdata} → %{text}<extra></extra>",
    )  # fmt: skip
    return figure


def load_and_importance(scene: Scene, theme: Theme = "light") -> go.Figure:
    """f beside P for every expert, means of the last 20 steps, with their products: why the loss uses both."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    figure = _figure(
        palette, "Load f and importance P", f"mean of the last {SMOOTHING_HORIZON} steps",
        xaxis=_expert_axis(num_experts), yaxis=dict(title="share, %", rangemode="tozero"),
        barmode="group", bargap=0.25, showlegend=True,
    )  # fmt: skip
    for column, name, colour in (
        ("load", "load f (counted)", palette.ink),
        ("importance", "importance P (probability)", palette.accent),
    ):
        figure.add_bar(
            x=_names(num_experts), y=100 * recent_mean(scene.history, column), name=name, marker_color=colour,
            meta={"now": column}, hovertemplate=f"expert %{{x}}: {name} %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=100 / num_experts, line=dict(color=palette.muted, dash="dot", width=1.5))
    return figure


def specialization(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Groups × experts: which share of a group's tokens goes to each expert first, smoothed."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    noun = scene.task.group_noun
    figure = _figure(
        palette, "Specialization", f"share of each {noun}'s tokens by first-choice expert, %",
        xaxis=_expert_axis(num_experts), margin=dict(l=100, r=12, t=8, b=44),
        yaxis=dict(autorange="reversed", showgrid=False, ticks=""),
    )  # fmt: skip
    figure.add_heatmap(
        x=_names(num_experts), y=list(scene.task.group_names), z=100 * scene.probe.group_shares(), zmin=0, zmax=100, xgap=2, ygap=2,
        colorscale=_scale(palette), colorbar=dict(thickness=10, outlinewidth=0, ticksuffix=" %", nticks=5),
        meta={"joint": True}, hovertemplate="%{y} → expert %{x}: %{z:.0f} %<extra></extra>",
    )  # fmt: skip
    return figure


def feedback(scene: Scene, theme: Theme = "light") -> dict[str, go.Figure]:
    """Three figures of one loop: token share → gradient norm → weight change, a line an expert."""
    captions = {
        "grad_norm": ("Gradient norm", "of each expert's weights, log scale", "‖gradient‖"),
        "weight_change": ("Weight change", "relative, a step, log scale", "‖Δw‖ / ‖w‖"),
    }
    palette = PALETTES[theme]
    colours = palette.expert_colours(scene.config.num_experts)
    share = _figure(
        palette, "Token share", "smoothed", time=True, yaxis=dict(title="share, %", rangemode="tozero")
    )
    for expert, colour in enumerate(colours):
        share.add_scatter(
            x=_steps(scene), y=100 * scene.history.column("smoothed_load")[:, expert], mode="lines",
            line=dict(width=1.8, color=colour), name=f"expert {expert + 1}",
            meta={"rows": "smoothed_load", "index": expert, "scale": 100},
            hovertemplate=f"step %{{x}}: expert {expert + 1} %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    figures = {"share": share}
    for column, (title, caption, axis) in captions.items():
        values = coarse_mean(scene.history, column)
        figure = _figure(
            palette, title, caption, time=True,
            yaxis=dict(title=axis, type="log", exponentformat="power", dtick=1, range=[-6, 0.5]),
        )  # fmt: skip
        for expert, colour in enumerate(colours):
            figure.add_scatter(
                x=COARSE * np.arange(1, len(values) + 1), y=np.where(values[:, expert] > 0, values[:, expert], np.nan),
                mode="lines", line=dict(width=1.8, color=colour), name=f"expert {expert + 1}",
                meta={"coarse": column, "index": expert},
                hovertemplate=f"step %{{x}}: expert {expert + 1} %{{y:.2e}}<extra></extra>",
            )  # fmt: skip
        figures[column] = figure
    return figures


def capacity(scene: Scene, theme: Theme = "light") -> go.Figure:
    """Demand of every expert split into what it computed and what was dropped, with the limit."""
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    processed = recent_mean(scene.history, "processed")
    dropped = recent_mean(scene.history, "load") - processed
    figure = _figure(
        palette, "Demand and capacity", f"mean of the last {SMOOTHING_HORIZON} steps", barmode="stack",
        xaxis=_expert_axis(num_experts), yaxis=dict(title="share of token choices, %", rangemode="tozero"),
        showlegend=True, bargap=0.25,
    )  # fmt: skip
    figure.add_bar(
        x=_names(num_experts), y=100 * processed, name="processed", meta={"now": "processed"},
        marker_color=palette.accent, hovertemplate="expert %{x}: %{y:.1f} % processed<extra></extra>",
    )  # fmt: skip
    figure.add_bar(
        x=_names(num_experts), y=100 * dropped, name="dropped", meta={"now": "dropped"},
        marker=dict(color=palette.danger_ground, line=dict(color=palette.danger, width=1.5)),
        hovertemplate="expert %{x}: %{y:.1f} % dropped<extra></extra>",
    )  # fmt: skip
    limit = scene.config.capacity_factor
    figure.add_scatter(
        x=_names(num_experts), y=[None if limit is None else 100 * limit / num_experts] * num_experts, mode="lines",
        line=dict(color=palette.ink, width=2, dash="dash"), name="limit", meta={"limit": True},
        hovertemplate="limit %{y:.1f} %<extra></extra>",
    )  # fmt: skip
    return figure


def infinity_level(config: RunConfig) -> float:
    """Where ∞ stands on the log axis of the imbalance ratio: a decade that no finite smoothed ratio can reach."""
    return float(10 ** np.ceil(np.log10(2 * SMOOTHING_HORIZON * config.batch_tokens * 8)))


def smooth(values: np.ndarray) -> np.ndarray:
    """Exponential moving average with the horizon that all smoothed quantities have."""
    return pd.Series(values).ewm(alpha=1 / SMOOTHING_HORIZON).mean().to_numpy()


def _figure(palette: Palette, title: str, caption: str, *, time: bool = False, **layout: Any) -> go.Figure:
    axis = dict(
        gridcolor=palette.grid, linecolor=palette.hairline, zeroline=False, title_font_size=13, tickfont_size=13,
        title_standoff=6, automargin=False,
    )  # fmt: skip
    if time:
        layout["xaxis"] = dict(title="step", rangemode="tozero", showgrid=False, **layout.get("xaxis", {}))
    for name in ("xaxis", "yaxis", "yaxis2"):
        if name in layout:
            layout[name] = {**axis, "color": palette.muted, **layout[name]}
    right = 62 if "yaxis2" in layout else 34
    figure = go.Figure(
        layout={
            "template": go.layout.Template(), "title": dict(text=title), "meta": {"caption": caption, "time": time}, "showlegend": False,
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "colorway": palette.experts,
            "font": dict(family=FONT, size=13, color=palette.muted), "hoverlabel": dict(font_family=FONT),
            "margin": dict(l=54, r=right, t=10, b=42), "uirevision": "keep", "bargap": 0.2, "dragmode": "zoom",
            "legend": dict(orientation="h", y=1.02, yanchor="bottom", x=0, font_color=palette.ink), **layout,
        }
    )  # fmt: skip
    return figure


PAGE_FIGURES = {
    "utilization": utilization,
    "imbalance": imbalance,
    "task_and_balance_loss": task_and_balance_loss,
    "utilization_over_time": utilization_over_time,
    "load_and_importance": load_and_importance,
    "specialization": specialization,
    "capacity": capacity,
}


def page_figures(scene: Scene, theme: Theme) -> dict[str, go.Figure]:
    """Every figure of the live page by its name there."""
    figures = {name: draw(scene, theme) for name, draw in PAGE_FIGURES.items()}
    figures |= {f"feedback_{name}": figure for name, figure in feedback(scene, theme).items()}
    if scene.held_out.positions is not None:
        figures["routing_map"] = routing_map(scene, theme)
    return figures


def mark_events(figure: go.Figure, scene: Scene, theme: Theme = "light") -> go.Figure:
    """Draw a dashed line with a label wherever a knob was moved, on a figure whose x axis is time."""
    palette = PALETTES[theme]
    for event in scene.history.events:
        figure.add_vline(x=event.step, line=dict(color=palette.ink, width=1.3, dash="dot"))
        figure.add_annotation(
            x=event.step, y=1, yref="paper", yanchor="top", xanchor="left", xshift=3, showarrow=False,
            text=label(scene.history, event), font=dict(size=12, color=palette.ink), bgcolor=palette.background,
        )  # fmt: skip
    return figure


def _expert_axis(num_experts: int) -> dict[str, Any]:
    every = max(1, num_experts // 16)
    return dict(title="expert", type="category", tickvals=_names(num_experts)[::every] if every > 1 else None,
                showgrid=False)  # fmt: skip


def _names(num_experts: int) -> list[str]:
    return [str(i + 1) for i in range(num_experts)]


def _steps(scene: Scene) -> np.ndarray:
    return scene.history.column("step")


def _scale(palette: Palette) -> list[list[Any]]:
    return [[0, palette.scale[0]], [1, palette.scale[1]]]


def _bar_labels(load: np.ndarray, dead: np.ndarray, palette: Palette) -> list[str]:
    """Under each bar its expert's number and, where no bar can run into it, its share in words."""
    words = [
        f'<span style="color:{palette.danger}">dead</span>' if is_dead else
        f'<span style="color:{palette.ink}">{100 * share:.0f} %</span>'
        for share, is_dead in zip(load, dead, strict=True)
    ]  # fmt: skip
    return [f"{name}<br>{word}" for name, word in zip(_names(len(load)), words, strict=True)]


def _top(load: np.ndarray) -> float:
    """The end of a share axis in percent: the first of a few round values above the bars."""
    highest = 104 * float(load.max(initial=0.0))
    floor = 250 / len(load)
    return float(next((top for top in (5, 10, 20, 30, 50, 75) if top >= max(highest, floor)), 104))
