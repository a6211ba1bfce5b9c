"""Charts of a whole sweep: a measure over two knobs, and every run as a line through all axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.scales import scale_for
from moe_sim.config.knobs import KNOBS
from moe_sim.config.words import value_in_words
from moe_sim.sweep.measures import MEASURES, Axes, complete, counted, groups, plain, short_label, shown

if TYPE_CHECKING:
    import pandas as pd

SCALES: dict[Theme, str] = {"light": "Cividis_r", "dark": "Cividis"}
"""Suitable for colour-blind readers; the high end contrasts with the background."""
ALONGSIDE = ("task_loss", "max_load", "dead_experts", "specialization")
"""The measures shown beside the axes in parallel coordinates."""


def phase_diagram(frame: pd.DataFrame, axes: Axes, x: str, y: str, measure: str, theme: Theme = "light") -> go.Figure:
    """The mean of a measure over seeds in each cell of two knobs; a cell without a run is empty.

    Args:
        frame: the sweep's rows; axes that are neither `x` nor `y` have one value in them.
        axes: the sweep's axes.
        x: the knob on the horizontal axis.
        y: the knob on the vertical axis.
        measure: one of `MEASURES`.
        theme: light or dark.
    """
    palette, words = PALETTES[theme], MEASURES[measure]
    means = np.full((len(axes[y]), len(axes[x])), np.nan)
    runs = np.zeros(means.shape, dtype=int)
    for group in groups(complete(frame), {y: axes[y], x: axes[x]}):
        cell = axes[y].index(group.settings[y]), axes[x].index(group.settings[x])
        means[cell], runs[cell] = group.mean(measure), len(group.runs)
    figure = blank_figure(
        palette, f"{words.label} over {short_label(x)} and {short_label(y)}",
        f"mean over seeds; {words.note}; {counted(frame)}", margin=dict(l=96, r=16, t=12, b=56),
        xaxis=_categories(x, axes[x]), yaxis=_categories(y, axes[y]),
    )  # fmt: skip
    scale = scale_for(means.ravel(), log=words.log)
    heights = scale.place(means.ravel()).reshape(means.shape)
    heights = np.log10(heights) if words.log else heights
    figure.add_heatmap(
        x=_texts(axes[x]), y=_texts(axes[y]), z=heights, xgap=2, ygap=2, colorscale=SCALES[theme], showscale=False,
        text=[[words.text(mean) for mean in row] for row in means], texttemplate="%{text}",
        customdata=runs, hoverongaps=False,
        hovertemplate=f"{short_label(x)} %{{x}}, {short_label(y)} %{{y}}<br>{words.title}: %{{text}}, "
        "%{customdata} runs<extra></extra>",
    )  # fmt: skip
    return figure


def _categories(name: str, values: Sequence[Any]) -> dict[str, Any]:
    texts = _texts(values)
    return dict(title=KNOBS[name].label, type="category", categoryorder="array", categoryarray=texts, showgrid=False,
                range=[-0.5, len(texts) - 0.5])  # fmt: skip


def _texts(values: Sequence[Any]) -> list[str]:
    return [value_in_words(value) for value in values]


def parallel_coordinates(
    frame: pd.DataFrame, axes: Axes, colour: str = "task_loss", theme: Theme = "light"
) -> go.Figure:
    """Every run as a line through its knobs and its main measures, coloured by a measure. Dragging along an axis
    selects the runs that pass there. Runs that lack a measure are left out."""
    palette, runs, names = PALETTES[theme], complete(frame), list(dict.fromkeys((*ALONGSIDE, colour)))
    whole = ~np.isnan([shown(runs, name) for name in names]).any(axis=0)
    lacking = f", {(~whole).sum()} without all measures" if not whole.all() else ""
    runs, words = runs[whole], MEASURES[colour]
    figure = blank_figure(
        palette, "Parallel coordinates",
        f"one line per run, coloured by {words.title}; drag along an axis to select runs; {counted(frame)}{lacking}",
        margin=dict(l=64, r=40, t=56, b=28), paper_bgcolor=palette.background,
    )  # fmt: skip
    along = {name: _measure_axis(name, shown(runs, name)) for name in names}
    dimensions = [_knob_axis(name, values, runs[name]) for name, values in axes.items()]
    dimensions += [dict(label=MEASURES[name].title, **axis) for name, axis in along.items()]
    ticks = {key: value for key, value in along[colour].items() if key != "values"}
    figure.add_parcoords(
        dimensions=dimensions, line=dict(
            color=along[colour]["values"], colorscale=SCALES[theme], showscale=True,
            colorbar=dict(thickness=10, outlinewidth=0, title=words.title, **ticks),
        ),
        labelfont=dict(size=14, color=palette.ink), tickfont=dict(size=13, color=palette.muted),
        rangefont=dict(size=1, color="rgba(0,0,0,0)"),
    )  # fmt: skip
    return figure


def _knob_axis(name: str, values: Sequence[Any], column: pd.Series) -> dict[str, Any]:
    """The values of a knob, evenly spaced and in order."""
    places = {value: place for place, value in enumerate(values)}
    return dict(
        label=short_label(name), values=[places.get(plain(name, cell), np.nan) for cell in column],
        tickvals=list(places.values()), ticktext=_texts(values), range=[-0.1, len(values) - 0.9],
    )  # fmt: skip


def _measure_axis(name: str, values: np.ndarray) -> dict[str, Any]:
    """A measure's numbers; on a log scale, their logarithms with ticks that show the numbers."""
    if not MEASURES[name].log:
        return dict(values=values)
    scale = scale_for(values, log=True)
    axis = scale.axis("")
    return dict(
        values=np.log10(scale.place(values)), tickvals=list(np.log10(axis["tickvals"])), ticktext=axis["ticktext"]
    )  # fmt: skip
