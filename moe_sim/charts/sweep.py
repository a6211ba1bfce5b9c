"""Charts of a sweep's table, one row per run: the effect of one knob, and the cost of balance.

The axes are passed along with the table, so that a chart keeps its axes while rows arrive. Runs that failed, diverged
or were stopped are left out, and the caption counts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure
from moe_sim.charts.palette import PALETTES, Palette, Theme
from moe_sim.charts.scales import Scale, knob_scale, scale_for
from moe_sim.config.knobs import KNOBS
from moe_sim.config.words import value_in_words
from moe_sim.sweep.measures import (
    MEASURES,
    Axes,
    Group,
    complete,
    counted,
    groups,
    in_words,
    pareto_front,
    short_label,
    shown,
)

if TYPE_CHECKING:
    import pandas as pd

HUES = (0, 1, 2, 6, 5, 3, 4, 7, 8, 9)
"""The order in which lines get the palette's colours: pale ones last."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "pentagon", "star", "hexagon", "cross", "bowtie")
ROOM = (0.2, 0.06)
"""Two points of a Pareto front are both labelled if they are at least this far apart, as fractions of the axes."""


def u_curve(
    frame: pd.DataFrame, axes: Axes, x: str, measure: str, series: str | None = None, theme: Theme = "light"
) -> go.Figure:
    """A measure against one knob: the mean over seeds as a line, ± one standard deviation as a band, a dot per run, and
    a ring at the lowest mean. Knobs without an order get error bars instead of a band.

    Args:
        frame: the sweep's rows; axes that are neither `x` nor `series` have one value in them.
        axes: the sweep's axes.
        x: the knob on the horizontal axis.
        measure: one of `MEASURES`.
        series: a knob that gets one line per value.
        theme: light or dark.
    """
    palette, words, runs = PALETTES[theme], MEASURES[measure], complete(frame)
    across = _Across(x, axes[x])
    up = scale_for(shown(runs, measure), log=words.log)
    named = {name: axes[name] for name in (series, x) if name is not None}
    figure = _sheet(
        palette, f"{words.label} against {_lower_first(KNOBS[x].label)}",
        f"mean ± standard deviation over seeds, {counted(frame)}",
        xaxis=across.axis, yaxis=up.axis(words.title), showlegend=series is not None,
    )  # fmt: skip
    found = groups(runs, named)
    for number, value in enumerate(axes[series] if series else [None]):
        mine = [group for group in found if series is None or group.settings[series] == value]
        name = _series_name(series, value) if series else words.label
        _draw_curve(figure, mine, measure, across, up, _style(palette, number), name)
    across.mark_breaks(figure, palette)
    up.mark_breaks(figure, palette, "y")
    return figure


class _Across:
    """A knob as horizontal axis: numeric knobs on a scale, others as categories."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self._name, self.ordered = name, KNOBS[name].kind in (int, float) and None not in values
        self._scale: Scale | None = knob_scale(values) if self.ordered else None
        label = KNOBS[name].label
        self.axis: dict[str, Any] = (
            self._scale.axis(label, values) if self._scale else
            dict(title=label, type="category", categoryorder="array",
                 categoryarray=[self._text(value) for value in values], range=[-0.5, len(values) - 0.5])
        ) | dict(showgrid=False)  # fmt: skip

    def place(self, found: Sequence[Group]) -> list[Any]:
        values = [group.settings[self._name] for group in found]
        return list(self._scale.place(values)) if self._scale else [self._text(value) for value in values]

    def mark_breaks(self, figure: go.Figure, palette: Palette) -> None:
        if self._scale:
            self._scale.mark_breaks(figure, palette, "x")

    @staticmethod
    def _text(value: Any) -> str:
        return value_in_words(value)


def _draw_curve(
    figure: go.Figure, found: list[Group], measure: str, across: _Across, up: Scale, style: dict[str, str], name: str
) -> None:
    places, words, colour = across.place(found), MEASURES[measure], style["color"]
    means, stds = (
        np.array([get(measure) for get in gets]) for gets in ([g.mean for g in found], [g.std for g in found])
    )
    heights = up.place(means)
    if across.ordered:
        low, high = up.clip(means - stds), up.clip(means + stds)
        usable = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
        figure.add_scatter(
            x=[places[i] for i in (*usable, *usable[::-1])], y=[*high[usable], *low[usable[::-1]]], fill="toself",
            mode="none", fillcolor=_faint(colour, 0.16), hoverinfo="skip", showlegend=False, name=f"{name} ± std",
        )  # fmt: skip
    bars = {} if across.ordered else dict(error_y=dict(type="data", array=np.nan_to_num(stds), color=colour))
    dots = [(place, value) for place, group in zip(places, found, strict=True) for value in group.shown(measure)]
    figure.add_scatter(
        x=[place for place, _ in dots], y=up.place([value for _, value in dots]), mode="markers", name=f"{name}, runs",
        marker=dict(size=5, opacity=0.45, **style), hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.add_scatter(
        x=places, y=heights, mode="lines+markers" if across.ordered else "markers", name=name,
        line=dict(color=colour, width=2.2), marker=dict(size=8, **style), **bars,
        text=[_mean_in_words(group, measure) for group in found], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    if words.better_low and np.isfinite(heights).any():
        lowest = int(np.nanargmin(heights))
        figure.add_scatter(
            x=[places[lowest]], y=[heights[lowest]], mode="markers", hoverinfo="skip", showlegend=False,
            name=f"{name}, lowest mean", marker=dict(size=17, symbol="circle-open", color=colour, line_width=2.2),
        )  # fmt: skip


def pareto(
    frame: pd.DataFrame, axes: Axes, imbalance: str = "imbalance_ratio", loss: str = "task_loss",
    colour: str | None = None, theme: Theme = "light",
) -> go.Figure:  # fmt: skip
    """The cost of balance: a dot per run, a larger dot for the mean of each combination, and a line through the
    combinations that no other one beats in both measures.

    Args:
        frame: the sweep's rows.
        axes: the sweep's axes.
        imbalance: the measure on the horizontal axis, one of `MEASURES`.
        loss: the measure on the vertical axis.
        colour: an axis whose values are told apart by colour and symbol.
        theme: light or dark.
    """
    palette, runs = PALETTES[theme], complete(frame)
    x, y = (scale_for(shown(runs, name), log=MEASURES[name].log) for name in (imbalance, loss))
    figure = _sheet(
        palette, f"{MEASURES[loss].label} against {_lower_first(MEASURES[imbalance].label)}",
        f"lower left is better; small: one run, large: mean over seeds, {counted(frame)}",
        xaxis=x.axis(MEASURES[imbalance].title), yaxis=y.axis(MEASURES[loss].title), showlegend=True,
    )  # fmt: skip
    found = groups(runs, axes)
    for number, value in enumerate(axes[colour] if colour else [None]):
        mine = [group for group in found if colour is None or group.settings[colour] == value]
        style, name = _style(palette, number), _series_name(colour, value) if colour else "combinations"
        dots = [pair for group in mine for pair in zip(group.shown(imbalance), group.shown(loss), strict=True)]
        figure.add_scatter(
            x=x.place([dot[0] for dot in dots]), y=y.place([dot[1] for dot in dots]), mode="markers",
            marker=dict(size=5, opacity=0.35, **style), hoverinfo="skip", showlegend=False, name=f"{name}, runs",
        )  # fmt: skip
        figure.add_scatter(
            x=x.place([group.mean(imbalance) for group in mine]), y=y.place([group.mean(loss) for group in mine]),
            mode="markers", marker=dict(size=11, line=dict(color=palette.background, width=1), **style), name=name,
            text=[f"{_mean_in_words(group, loss)}<br>{_measure_in_words(group, imbalance)}" for group in mine],
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    low, high = figure.layout.xaxis.range
    figure.update_xaxes(range=[low - ROOM[0] * (high - low), high])  # room for labels left of the front
    _draw_front(figure, found, (imbalance, x), (loss, y), palette)
    x.mark_breaks(figure, palette, "x")
    return figure


def _draw_front(
    figure: go.Figure, found: list[Group], across: tuple[str, Scale], up: tuple[str, Scale], palette: Palette
) -> None:
    means = [np.array([group.mean(name) for group in found]) for name, _ in (across, up)]
    front = pareto_front(*means)
    places = [scale.place(values[front]) for (_, scale), values in zip((across, up), means, strict=True)]
    figure.add_scatter(
        x=places[0], y=places[1], mode="lines+markers", name="Pareto front of the means", hoverinfo="skip",
        line=dict(color=palette.ink, width=2, dash="dot"),
        marker=dict(size=16, symbol="circle-open", color=palette.ink, line_width=2),
    )  # fmt: skip
    points = [np.log10(place) if scale.log else place for (_, scale), place in zip((across, up), places, strict=True)]
    ranges = (figure.layout.xaxis.range, figure.layout.yaxis.range)
    parts = [(point - low) / (high - low) for point, (low, high) in zip(points, ranges, strict=True)]
    for i in _far_apart(np.column_stack(parts)):
        figure.add_annotation(
            x=points[0][i], y=points[1][i], text=in_words(found[front[i]].settings), showarrow=False, borderpad=2,
            xanchor="right", xshift=-8, yanchor="top", yshift=-4, opacity=0.8,
            font=dict(size=12, color=palette.ink), bgcolor=palette.background,
        )  # fmt: skip


def _far_apart(points: np.ndarray) -> list[int]:
    """Indices of (n, 2) points whose labels do not overlap, the ends of the front first."""
    order = sorted(range(len(points)), key=lambda i: min(i, len(points) - 1 - i))
    chosen: list[int] = []
    for i in order:
        if all((abs(points[i] - points[other]) >= ROOM).any() for other in chosen):
            chosen.append(i)
    return chosen


def _sheet(palette: Palette, title: str, caption: str, **layout: Any) -> go.Figure:
    return blank_figure(palette, title, caption, margin=dict(l=64, r=24, t=44, b=52), hovermode="closest", **layout)


def _style(palette: Palette, number: int) -> dict[str, str]:
    """The colour and symbol of a line; only together are they unique."""
    colours = palette.expert_colours(10 * (1 + number // 10))
    return dict(color=colours[10 * (number // 10) + HUES[number % 10]], symbol=SYMBOLS[number % len(SYMBOLS)])


def _series_name(name: str, value: Any) -> str:
    return f"{short_label(name)} {value_in_words(value)}"


def _mean_in_words(group: Group, measure: str) -> str:
    runs = len(group.runs)
    return f"<b>{in_words(group.settings)}</b><br>{_measure_in_words(group, measure)}, {runs} run{'s' * (runs != 1)}"


def _measure_in_words(group: Group, measure: str) -> str:
    words, mean, std = MEASURES[measure], group.mean(measure), group.std(measure)
    spread = "" if math.isnan(std) else f" ± {words.text(std)}"
    return f"{words.title}: {words.text(mean) or 'none'}{spread}"


def _faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:]
