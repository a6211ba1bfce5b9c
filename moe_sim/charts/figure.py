"""What all figures share: the blank figure, markers of changed knobs, expert axes, the capacity limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.palette import PALETTES, Palette, Theme
from moe_sim.charts.scene import Scene
from moe_sim.config.run_config import RunConfig
from moe_sim.history.columns import COARSE
from moe_sim.history.markers import markers
from moe_sim.history.series import recent_mean, signals
from moe_sim.metrics import SMOOTHING_HORIZON
from moe_sim.router.capacity import expert_capacity

UTILIZATION_CAPTIONS = (
    "before training: first choices of held-out tokens",
    f"share of token choices, mean of about {SMOOTHING_HORIZON} steps",
)
"""Before the first step, and from there on."""
FONT = '"Source Sans", "Source Sans Pro", sans-serif'


def blank_figure(
    palette: Palette, title: str, caption: str, *, time: bool = False, only: dict[str, str] | None = None,
    plain: dict[str, str] | None = None, all_layers: bool = False, **layout: Any,
) -> go.Figure:  # fmt: skip
    """An empty figure in the house style.

    Args:
        palette: the colours.
        title: the chart's name.
        caption: a description in small print beside the title.
        time: whether the x axis is steps.
        only: the values of live knobs for which the chart is meaningful; otherwise the page hides it.
        plain: plain words for beginners in place of axis titles, by axis, and of the caption.
        all_layers: whether the chart is about all layers of a run, not one or their mean.
        **layout: Plotly layout on top.
    """
    axis = dict(
        gridcolor=palette.grid, linecolor=palette.hairline, zeroline=False, title_font_size=13, tickfont_size=13,
        title_standoff=6, automargin=False,
        ticklabeloverflow="allow",  # else Plotly measures every label in every drawing
    )  # fmt: skip
    if time:
        layout["xaxis"] = dict(
            title="step", rangemode="tozero", showgrid=False, unifiedhovertitle_text="step %{x}",
            **layout.get("xaxis", {}),
        )  # fmt: skip
        layout.setdefault("hovermode", "x unified")
    for name in ("xaxis", "yaxis", "yaxis2"):
        if name in layout:
            layout[name] = {**axis, "color": palette.muted, **layout[name]}
    right = 62 if "yaxis2" in layout else 34
    figure = go.Figure(
        layout={
            "template": go.layout.Template(), "title": dict(text=title), "showlegend": False,
            "meta": {"caption": caption, "time": time, "only": only, "plain": plain or {}}
            | ({"all_layers": True} if all_layers else {}),
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "colorway": palette.experts,
            "font": dict(family=FONT, size=13, color=palette.muted), "hoverlabel": dict(font_family=FONT),
            "margin": dict(l=54, r=right, t=10, b=42), "uirevision": "keep", "bargap": 0.2, "dragmode": "zoom",
            "legend": dict(orientation="h", y=1.02, yanchor="bottom", x=0, font_color=palette.ink), **layout,
        }
    )  # fmt: skip
    return figure


def standing_alone(figure: go.Figure, theme: Theme = "light") -> go.Figure:
    """Lets a figure of a page stand without it: with its title, its caption below that, and a background."""
    palette, margin = PALETTES[theme], figure.layout.margin
    above = 68
    return figure.update_layout(
        paper_bgcolor=palette.background, plot_bgcolor=palette.background, font_color=palette.ink,
        margin=dict(t=above, l=max(64, margin.l or 0), b=max(52, margin.b or 0)), autosize=True,
        height=(figure.layout.height or 420) + above - (margin.t or 0),
        legend=dict(y=-0.18, yanchor="top"),
        title=dict(
            font=dict(size=17, color=palette.ink), x=0.01, xanchor="left", y=1, yref="container", yanchor="top",
            pad=dict(t=12), subtitle=dict(text=(figure.layout.meta or {}).get("caption", ""),
                                          font=dict(size=13, color=palette.muted)),
        ),
    )  # fmt: skip


def mark_events(figure: go.Figure, scene: Scene, theme: Theme = "light") -> go.Figure:
    """Draw a dashed line with a label at every change of a knob, on a figure whose x axis is time."""
    palette = PALETTES[theme]
    for marker in markers(scene.history):
        figure.add_vline(x=marker.step, line=dict(color=palette.ink, width=1.3, dash="dot"))
        figure.add_annotation(
            x=marker.step, y=1, yref="paper", yanchor="top", xanchor="left", xshift=3, showarrow=False,
            text=marker.label, font=dict(size=12, color=palette.ink), bgcolor=palette.background,
        )  # fmt: skip
    return figure


def signal_line(
    figure: go.Figure, scene: Scene, name: str, label: str, colour: str, *, factor: float = 1, dash: str = "solid",
    **trace: Any,
) -> None:  # fmt: skip
    """Draw one of `series.SIGNALS` over steps, a point per block of ten. On a log axis, 0 is a gap."""
    values = signals(scene.history)[name] * factor
    log = figure.layout.yaxis.type == "log"
    if log:
        values = np.where(values > 0, values, np.nan)
    figure.add_scatter(
        x=COARSE * np.arange(1, len(values) + 1), y=values, mode="lines", name=label,
        line=dict(color=colour, width=2, dash=dash),
        meta={"kind": "signal", "signal": name, "factor": factor, "log": log},
        hovertemplate=f"{label} %{{y:.3g}}<extra></extra>", **trace,
    )  # fmt: skip


def share_bars(
    scene: Scene, theme: Theme, title: str, columns: tuple[tuple[str, str, str], ...]
) -> go.Figure:  # fmt: skip
    """Shares of every expert side by side, means of the last 20 steps, with the uniform share as a line.

    Args:
        scene: the run.
        theme: light or dark.
        title: the chart's name.
        columns: columns of the history, each with a name and a colour.
    """
    palette, num_experts = PALETTES[theme], scene.config.num_experts
    figure = blank_figure(
        palette, title, f"mean of the last {SMOOTHING_HORIZON} steps",
        xaxis=expert_axis(num_experts), yaxis=dict(title="share, %", rangemode="tozero"),
        barmode="group", bargap=0.25, showlegend=True,
    )  # fmt: skip
    for column, name, colour in columns:
        figure.add_bar(
            x=expert_names(num_experts), y=100 * recent_mean(scene.history, column), name=name, marker_color=colour,
            meta={"kind": "now", "column": column}, hovertemplate=f"expert %{{x}}: {name} %{{y:.1f}} %<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=100 / num_experts, line=dict(color=palette.muted, dash="dot", width=1.5))
    return figure


def capacity_limit(figure: go.Figure, config: RunConfig, name: str, colour: str) -> None:
    """Draw the capacity limit as a dashed line across the experts. Without a capacity factor the line is empty."""
    limit = capacity_share(config)
    figure.add_scatter(
        x=expert_names(config.num_experts), y=[None if limit is None else 100 * limit] * config.num_experts,
        mode="lines", line=dict(color=colour, width=2, dash="dash"), name=name,
        meta={"kind": "limit", "batch_tokens": config.batch_tokens},
        hovertemplate=f"{name} %{{y:.1f}} %<extra></extra>",
    )  # fmt: skip


def capacity(config: RunConfig) -> int | None:
    """How many token choices an expert takes per step; None without a limit."""
    if config.capacity_factor is None:
        return None
    return expert_capacity(
        tokens=config.batch_tokens, num_experts=config.num_experts, top_k=config.top_k,
        capacity_factor=config.capacity_factor,
    )  # fmt: skip


def capacity_share(config: RunConfig) -> float | None:
    """The same as a share of all token choices of a step: a little above factor/E, because capacity is rounded up."""
    room = capacity(config)
    return None if room is None else room / (config.batch_tokens * config.top_k)


def expert_axis(num_experts: int) -> dict[str, Any]:
    every = max(1, num_experts // 16)
    return dict(title="expert", type="category", tickvals=expert_names(num_experts)[::every] if every > 1 else None,
                showgrid=False)  # fmt: skip


def expert_names(num_experts: int) -> list[str]:
    return [str(i + 1) for i in range(num_experts)]


def steps_of(scene: Scene) -> np.ndarray:
    return scene.history.column("step")


def share_scale(palette: Palette) -> list[list[Any]]:
    return [[0, palette.scale[0]], [1, palette.scale[1]]]
