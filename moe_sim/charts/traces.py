"""The charts of a trace: the routing of a model of up to hundreds of experts in each of many layers.

Experts are counted from 0, as the model counts them. n records, L layers, E experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure, share_scale
from moe_sim.charts.layers import BRIGHTEST, DEAD, NUMBERS_UP_TO
from moe_sim.charts.overview import STACKED_UP_TO, share_axis_top, smooth
from moe_sim.charts.palette import PALETTES, Palette, Theme
from moe_sim.config.thresholds import Thresholds
from moe_sim.config.words import percent, power_of_ten
from moe_sim.diagnosis.verdict import SETTLING_STEPS
from moe_sim.history.trace import TraceHistory
from moe_sim.metrics import SMOOTHING_HORIZON

MOST_POINTS = 400
"""Records that a chart over time draws; of a longer trace, so many at equal distances."""
RANKED_FROM = 65
"""With that many experts, bars and maps show ranks: the busiest expert of each layer first."""
MOST_LINES = 6
"""The most layers that have a line each."""
ROW_HEIGHT, LEAST_HEIGHT, MOST_HEIGHT = 20, 260, 1_100
"""Pixels of a layer in a map, and of all of it."""
SMOOTHED_CAPTION = f"mean of about {SMOOTHING_HORIZON} records"


@dataclass(frozen=True)
class TraceScene:
    """A trace at one moment, with the layer that its figures show."""

    history: TraceHistory
    layer: int = 0
    thresholds: Thresholds = field(default_factory=Thresholds)
    beside: TraceHistory | None = None
    """Another trace, whose figures have the same scales."""
    rows: np.ndarray = field(init=False)
    """The records that charts over time draw."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", spread(len(self.history)))

    @property
    def num_experts(self) -> int:
        """E of the layer."""
        return self.history.header.layers[self.layer].num_experts

    @property
    def layer_name(self) -> str:
        """The name of the layer's module."""
        return self.history.layer_names[self.layer]

    @property
    def steps(self) -> np.ndarray:
        """The steps of `rows`."""
        return self.history.column("step")[self.rows]


def experts_by_layer(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """Layers × experts: the smoothed load in multiples of the even share, dead experts with a cross."""
    palette, history = PALETTES[theme], scene.history
    ranked = history.num_experts >= RANKED_FROM
    experts = np.array([layer.num_experts for layer in history.header.layers])
    load = history.last("smoothed_load")
    dead = (load < scene.thresholds.dead_share / experts[:, None]) & (len(history) >= SETTLING_STEPS)
    if ranked:
        order = np.argsort(-np.nan_to_num(load, nan=-1), axis=1, kind="stable")
        load, dead = np.take_along_axis(load, order, 1), np.take_along_axis(dead, order, 1)
    numbers = history.num_experts <= NUMBERS_UP_TO and history.num_layers <= 32
    words = None if ranked else [
        [DEAD if is_dead and not ranked else percent(share) if numbers and np.isfinite(share) else ""
         for share, is_dead in zip(*row, strict=True)]
        for row in zip(load.tolist(), dead.tolist(), strict=True)
    ]  # fmt: skip
    what = "each layer's experts, the busiest first" if ranked else f"share of each layer's token choices · {DEAD} dead"
    figure = blank_figure(
        palette, "Experts by layer", f"{what} · full colour: {BRIGHTEST} times the even share or more",
        hovermode="closest", height=map_height(history.num_layers), margin=dict(l=110, r=20, t=8, b=44),
        xaxis=dict(title="rank" if ranked else "expert", showgrid=False, range=[-0.5, history.num_experts - 0.5],
                   **_ticks(history.num_experts)),
        yaxis=dict(**_layer_axis(scene)),
    )  # fmt: skip
    figure.add_heatmap(
        x=list(range(history.num_experts)), y=list(range(history.num_layers)),
        z=(load * experts[:, None]).astype(np.float32),
        text=words, texttemplate=words and "%{text}", customdata=None if ranked else np.where(dead, "dead", ""),
        zmin=0, zmax=BRIGHTEST, xgap=gap(history.num_experts), ygap=gap(history.num_layers), showscale=False,
        colorscale=share_scale(palette), meta={"kind": "layers"},
        hovertemplate=f"layer %{{y}}, {'rank' if ranked else 'expert'} %{{x}}: %{{z:.2f}} × even"
        f"{'' if ranked else ' %{customdata}'}<extra></extra>",
    )  # fmt: skip
    return figure


def layers_over_time(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """Layers × steps: how many times the even share the busiest expert has. A collapse is a row whose colour fills."""
    palette, history = PALETTES[theme], scene.history
    experts = np.array([layer.num_experts for layer in history.header.layers])
    times = history.by_layer("busiest_share")[scene.rows] * experts
    top = max(BRIGHTEST, float(np.max(experts / np.maximum(1, [history.top_k(one) for one in range(len(experts))]))))
    figure = blank_figure(
        palette, "The busiest expert of each layer, over time", f"in even shares · full colour: {top:.3g}, everything",
        time=True, hovermode="closest", height=map_height(history.num_layers), margin=dict(l=110, r=20, t=8, b=44),
        yaxis=dict(**_layer_axis(scene)),
    )  # fmt: skip
    figure.add_heatmap(
        x=scene.steps, y=list(range(history.num_layers)), z=times.T, zmin=1, zmax=top, showscale=False,
        colorscale=share_scale(palette), ygap=gap(history.num_layers),
        hovertemplate="layer %{y}, step %{x}: %{z:.2f} × even<extra></extra>",
    )  # fmt: skip
    return figure


def utilization(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """Bars of the smoothed load of one layer, with the healthy band and the even share."""
    palette, experts = PALETTES[theme], scene.num_experts
    load = np.nan_to_num(scene.history.now(scene.layer))
    order = np.argsort(-load, kind="stable") if experts >= RANKED_FROM else np.arange(experts)
    top = share_axis_top([*load], experts)
    figure = blank_figure(
        palette, "Expert utilization", f"share of token choices, {SMOOTHED_CAPTION}",
        xaxis=dict(title="rank" if experts >= RANKED_FROM else "expert", showgrid=False, range=[-0.6, experts - 0.4],
                   **_ticks(experts)),
        yaxis=dict(title="share, %", rangemode="tozero", range=[0, top]), bargap=0.2 if experts <= 32 else 0.02,
    )  # fmt: skip
    figure.add_bar(
        x=np.arange(experts), y=100 * load[order], customdata=order, name="share",
        marker_color=palette.expert_colours(experts) if experts <= STACKED_UP_TO else palette.accent,
        hovertemplate="expert %{customdata}: %{y:.2f} %<extra></extra>",
    )  # fmt: skip
    even, lines = 100 / experts, scene.thresholds
    figure.add_hrect(y0=even * lines.healthy_low, y1=even * lines.healthy_high, fillcolor=palette.accent, opacity=0.09,
                     line_width=0, layer="below")  # fmt: skip
    figure.add_hline(y=even, line=dict(color=palette.muted, dash="dot", width=1.5))
    return figure


def utilization_over_time(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """The smoothed load of one layer: stacked up to 16 experts, else a map."""
    palette, experts = PALETTES[theme], scene.num_experts
    load = 100 * scene.history.of_layers("smoothed_load", layer=scene.layer)[scene.rows, 0]
    caption = f"share of token choices, {SMOOTHED_CAPTION}"
    if experts > STACKED_UP_TO:
        figure = blank_figure(
            palette, "Utilization over time", f"{caption} · strong colour: busy", time=True, hovermode="closest",
            yaxis=dict(title="expert", range=[experts - 0.5, -0.5], showgrid=False),
        )  # fmt: skip
        figure.add_heatmap(
            x=scene.steps, y=list(range(experts)), z=load.T.astype(np.float32),
            zmin=0, zmax=100 * BRIGHTEST / experts, showscale=False,
            colorscale=share_scale(palette), hovertemplate="step %{x}, expert %{y}: %{z:.2f} %<extra></extra>",
        )  # fmt: skip
        return figure
    figure = blank_figure(palette, "Utilization over time", caption, time=True,
                          yaxis=dict(title="share, %", range=[0, 100], tickvals=[0, 25, 50, 75, 100]))  # fmt: skip
    for expert, colour in enumerate(palette.expert_colours(experts)):
        figure.add_scatter(
            x=scene.steps, y=load[:, expert], stackgroup="load", mode="lines", fillcolor=colour,
            line=dict(width=0.6, color=palette.background), name=f"expert {expert}",
            hovertemplate=f"expert {expert} %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    return figure


def imbalance(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """max/min of the smoothed load on a log axis: a line for each layer, or the worst, the median and the chosen one of
    many. ∞, where an expert got no tokens, is at the top."""
    palette, history = PALETTES[theme], scene.history
    ratios = history.by_layer("smoothed_imbalance")[scene.rows].astype(float)
    top = max(_highest_decade(one) for one in (history, scene.beside) if one is not None)
    healthy = scene.thresholds.healthy_ratio
    decades = range(1, round(np.log10(top)))
    figure = blank_figure(
        palette, "Imbalance ratio", f"max / min, log · band: up to {healthy:.3g}", time=True, showlegend=True,
        yaxis=dict(title="max / min", type="log", range=[-0.08, np.log10(top) + 0.12],
                   tickvals=[1, *(10**i for i in decades), top],
                   ticktext=["1", *(power_of_ten(i) for i in decades), "∞"]),
    )  # fmt: skip
    figure.add_hrect(y0=1, y1=healthy, fillcolor=palette.accent, opacity=0.09, line_width=0, layer="below")
    if history.num_layers <= MOST_LINES:
        lines = [(name, ratios[:, index], index == scene.layer) for index, name in enumerate(scene.history.short_names)]
    else:
        chosen = scene.history.short_names[scene.layer]
        lines = [("worst", ratios.max(1, initial=1), False), ("median", np.median(ratios, 1), False),
                 (chosen, ratios[:, scene.layer], True)]  # fmt: skip
    for name, values, is_chosen in lines:
        figure.add_scatter(
            x=scene.steps, y=np.where(np.isfinite(values), values, top), mode="lines", name=name,
            text=["∞" if np.isinf(value) else f"{value:.3g}" for value in values],
            line=dict(color=palette.accent if is_chosen else palette.ink, width=2.4 if is_chosen else 1.3),
            opacity=1 if is_chosen else 0.6, hovertemplate=f"{name} %{{text}}<extra></extra>",
        )  # fmt: skip
    return figure


def logged(scene: TraceScene, name: str, theme: Theme = "light") -> go.Figure:
    """A number that was logged beside the routing: faint as it is, and its moving average."""
    palette = PALETTES[theme]
    values = scene.history.column(name)
    known = np.flatnonzero(np.isfinite(values))
    average = smooth(values[known]) if len(known) else values[known]
    shown = spread(len(known))
    rows = known[shown]
    steps = scene.history.column("step")[rows]
    figure = blank_figure(palette, name.replace("_", " "), f"mean of about {SMOOTHING_HORIZON} records, and each",
                          time=True, yaxis=dict(title=name.replace("_", " ")))  # fmt: skip
    figure.add_scatter(x=steps, y=values[rows], mode="lines", line=dict(color=palette.ink, width=1), opacity=0.22,
                       hoverinfo="skip", name="each")  # fmt: skip
    figure.add_scatter(x=steps, y=average[shown], mode="lines", name=name,
                       line=dict(color=palette.ink, width=2.2), hovertemplate="%{y:.4g}<extra></extra>")  # fmt: skip
    return figure


def load_and_importance(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """f beside P for every expert of a layer, means of the last 20 records."""
    palette, recent = PALETTES[theme], max(0, len(scene.history) - SMOOTHING_HORIZON)
    figure = _paired_bars(scene, "Load f and importance P", "mean of the last 20 records", palette)
    for name, label, colour in (("load", "load f (counted)", palette.ink),
                                ("importance", "importance P (probability)", palette.accent)):  # fmt: skip
        _add_bars(figure, scene.history.of_layers(name, recent, layer=scene.layer)[:, 0], label, colour)
    return figure


def evaluation_load(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """The load of a layer in training beside that in evaluation mode, which is kept apart."""
    palette, recent = PALETTES[theme], max(0, len(scene.history) - SMOOTHING_HORIZON)
    figure = _paired_bars(scene, "Load in training and in evaluation", "newest", palette)
    _add_bars(figure, scene.history.of_layers("load", recent, layer=scene.layer)[:, 0], "training", palette.ink)
    evaluated = scene.history.of_layers("eval_load", layer=scene.layer)[:, 0]
    _add_bars(figure, evaluated[np.isfinite(evaluated[:, 0])][-1:], "evaluation", palette.accent)
    return figure


def router(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """The entropy of a layer's router, and the size of its logits."""
    palette, history = PALETTES[theme], scene.history
    figure = blank_figure(
        palette, "Router", "entropy: 1 is undecided · largest logit: 15 is saturated", time=True, showlegend=True,
        yaxis=dict(title="entropy / ln E", range=[0, 1.04], color=palette.ink),
        yaxis2=dict(title=dict(text="largest logit", font_color=palette.accent), overlaying="y", side="right",
                    showgrid=False, tickfont_color=palette.accent, rangemode="tozero", tickmode="auto", nticks=6),
    )  # fmt: skip
    entropy = history.by_layer("router_entropy")[scene.rows, scene.layer]
    figure.add_scatter(x=scene.steps, y=entropy, mode="lines", name="entropy", line=dict(color=palette.ink, width=2),
                       hovertemplate="entropy %{y:.3f}<extra></extra>")  # fmt: skip
    if history.has("router_logit_max"):
        largest = history.by_layer("router_logit_max")[scene.rows, scene.layer]
        figure.add_scatter(
            x=scene.steps, y=largest, mode="lines", name="largest logit", yaxis="y2",
            line=dict(color=palette.accent, width=2), hovertemplate="logit %{y:.3g}<extra></extra>",
        )  # fmt: skip
    return figure


def balance_loss(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """E·Σ f·P of a layer: 1 when even, E/K when everything goes to K experts."""
    palette = PALETTES[theme]
    values = scene.history.by_layer("balance_loss")[:, scene.layer].astype(float)
    figure = blank_figure(palette, "Load-balancing loss", "E·Σ f·P of the layer: 1 is even", time=True,
                          yaxis=dict(title="E·Σ f·P"))  # fmt: skip
    figure.add_scatter(x=scene.steps, y=values[scene.rows], mode="lines", line=dict(color=palette.accent, width=2),
                       hovertemplate="%{y:.3f}<extra></extra>", name="load-balancing loss")  # fmt: skip
    return figure


def specialization(scene: TraceScene, theme: Theme = "light") -> go.Figure:
    """Groups × experts: the share of each group's token choices, smoothed."""
    palette, joint = PALETTES[theme], scene.history.joint(scene.layer)
    total = joint.sum(1, keepdims=True)
    shares = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)
    figure = blank_figure(
        palette, "Specialization", "share of each group's token choices by expert, %",
        xaxis=dict(title="expert", showgrid=False, **_ticks(scene.num_experts)), margin=dict(l=110, r=12, t=8, b=44),
        yaxis=dict(type="category", autorange="reversed", showgrid=False, ticks=""),
    )  # fmt: skip
    figure.add_heatmap(
        x=list(range(scene.num_experts)), y=list(scene.history.header.groups), z=100 * shares, zmin=0,
        colorscale=share_scale(palette), showscale=False, xgap=gap(scene.num_experts), ygap=2,
        hovertemplate="%{y} → expert %{x}: %{z:.1f} %<extra></extra>",
    )  # fmt: skip
    return figure


Drawing = Callable[[TraceScene, Theme], go.Figure]
FIGURES: dict[str, tuple[Drawing, tuple[str, ...]]] = {
    "experts_by_layer": (experts_by_layer, ()),
    "layers_over_time": (layers_over_time, ()),
    "utilization": (utilization, ()),
    "utilization_over_time": (utilization_over_time, ()),
    "imbalance": (imbalance, ()),
    "load_and_importance": (load_and_importance, ("importance",)),
    "balance_loss": (balance_loss, ("balance_loss",)),
    "router": (router, ("router_entropy",)),
    "specialization": (specialization, ("specialization",)),
    "evaluation_load": (evaluation_load, ("eval_load",)),
}
"""The charts of a trace by name, and the columns that each needs."""
OF_ALL_LAYERS = ("experts_by_layer", "layers_over_time")
"""The charts that show all layers; they say nothing new if there is one."""


def figure_names(history: TraceHistory) -> list[str]:
    """The charts that a trace has numbers for. Those of logged numbers have the names of the numbers; where that is the
    name of another chart, with `logged_` before it."""
    return [*_charts_of_routing(history), *_logged_by_chart(history)]


def draw(scene: TraceScene, name: str, theme: Theme = "light") -> go.Figure:
    """One of `figure_names`. Of several layers, the caption names the one that is shown."""
    if name in (numbers := _logged_by_chart(scene.history)):
        return logged(scene, numbers[name], theme)
    figure = FIGURES[name][0](scene, theme)
    if name not in (*OF_ALL_LAYERS, "imbalance") and scene.history.num_layers > 1:
        figure.layout.meta = figure.layout.meta | {
            "caption": f"{scene.history.short_names[scene.layer]} · {figure.layout.meta['caption']}"
        }
    return figure


def _charts_of_routing(history: TraceHistory) -> list[str]:
    names = [name for name, (_, needed) in FIGURES.items() if all(history.has(one) for one in needed)]
    return [name for name in names if history.num_layers > 1 or name not in OF_ALL_LAYERS]


def _logged_by_chart(history: TraceHistory) -> dict[str, str]:
    """The names of the charts of logged numbers, and those of the numbers."""
    taken = _charts_of_routing(history)
    return {f"logged_{name}" if name in taken else name: name for name in history.numbers}


def spread(length: int) -> np.ndarray:
    """Indices from 0 to length − 1 at equal distances, at most `MOST_POINTS`."""
    return np.unique(np.linspace(0, length - 1, min(length, MOST_POINTS)).round().astype(int))


def map_height(layers: int) -> int:
    """Pixels of a map with a row for each layer."""
    return min(MOST_HEIGHT, max(LEAST_HEIGHT, 60 + ROW_HEIGHT * layers))


def gap(cells: int) -> float:
    """Pixels between the cells of a map: none where there are many."""
    return 2 if cells <= 32 else 1 if cells <= 96 else 0


def _highest_decade(history: TraceHistory) -> float:
    """A power of ten well above all finite imbalance ratios that are drawn."""
    ratios = history.by_layer("smoothed_imbalance")[spread(len(history))]
    return float(10 ** np.ceil(np.log10(max(100.0, 2 * ratios[np.isfinite(ratios)].max(initial=1)))))


def _layer_axis(scene: TraceScene) -> dict[str, Any]:
    names = scene.history.short_names
    every = max(1, -(-len(names) // 48))
    return dict(
        tickvals=list(range(0, len(names), every)), ticktext=names[::every], range=[len(names) - 0.5, -0.5],
        showgrid=False, ticks="", automargin=True,
    )  # fmt: skip


def _ticks(experts: int) -> dict[str, Any]:
    every = max(1, -(-experts // (8 if experts >= RANKED_FROM else 16)))
    return dict(tickvals=list(range(0, experts, every)), ticks="")


def _paired_bars(scene: TraceScene, title: str, caption: str, palette: Palette) -> go.Figure:
    figure = blank_figure(
        palette, title, caption, xaxis=dict(title="expert", showgrid=False, **_ticks(scene.num_experts)),
        yaxis=dict(title="share, %", rangemode="tozero"), barmode="group", bargap=0.25, showlegend=True,
    )  # fmt: skip
    return figure.add_hline(y=100 / scene.num_experts, line=dict(color=palette.muted, dash="dot", width=1.5))


def _add_bars(figure: go.Figure, shares: np.ndarray, name: str, colour: str) -> None:
    mean = shares.mean(0) if len(shares) else np.zeros(shares.shape[1])
    figure.add_bar(x=np.arange(len(mean)), y=100 * mean, name=name, marker_color=colour,
                   hovertemplate=f"expert %{{x}}: {name} %{{y:.2f}} %<extra></extra>")  # fmt: skip
