"""Any column of a run or a trace over the steps.

n steps, E experts.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure
from moe_sim.charts.overview import STACKED_UP_TO, smooth
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.scene import Scene
from moe_sim.charts.traces import TraceScene
from moe_sim.history.column_meanings import ColumnMeaning, meaning_of
from moe_sim.history.columns import EACH, PER_CHOICE, PER_EXPERT, SCALARS
from moe_sim.history.trace import PER_EXPERT as PER_EXPERT_OF_TRACE
from moe_sim.metrics import SMOOTHING_HORIZON

LOGGED = ColumnMeaning("", over=EACH)
"""What is known of a number that a trace has logged."""


def run_columns() -> tuple[str, ...]:
    """The columns of a run that can be drawn."""
    return tuple(name for name in (*SCALARS, *PER_EXPERT, *PER_CHOICE) if name != "step")


def run_column(scene: Scene, name: str, theme: Theme = "light") -> go.Figure:
    """A column of a run: a number, or a line for each expert or each choice, counted from 1."""
    values = scene.history.column(name)
    noun = "choice" if name in PER_CHOICE else "expert"
    if name in PER_CHOICE:
        values = values[:, : scene.config.top_k]
    names = [f"{noun} {index + 1}" for index in range(values.shape[1])] if values.ndim == 2 else [name]
    return _lines(name, scene.history.column("step"), values, names, meaning_of(name) or LOGGED, theme)


def trace_column(scene: TraceScene, name: str, theme: Theme = "light") -> go.Figure:
    """A column of one layer of a trace: a number, or a line for each expert, counted from 0."""
    history = scene.history
    if name in PER_EXPERT_OF_TRACE:
        values = history.of_layers(name, layer=scene.layer)[:, 0]
        names = [f"expert {index}" for index in range(values.shape[1])]
    else:
        values, names = history.by_layer(name)[:, scene.layer].astype(float), [name]
    rows = scene.rows if name != "eval_load" else np.arange(len(values))
    return _lines(name, history.column("step")[rows], values[rows], names, meaning_of(name, "trace") or LOGGED, theme)


def _lines(
    name: str, steps: np.ndarray, values: np.ndarray, names: list[str], meaning: ColumnMeaning, theme: Theme
) -> go.Figure:
    """(n,) values of a number, with its moving average if it is one of single steps; or (n, lines)."""
    palette, words = PALETTES[theme], name.replace("_", " ")
    known = ~np.isnan(values.reshape(len(values), -1)).all(1)
    steps, values = steps[known], values[known]
    averaged = values.ndim == 1 and meaning.over == EACH
    figure = blank_figure(
        palette, words.capitalize(), f"mean of {SMOOTHING_HORIZON} steps, and each" if averaged else meaning.over,
        time=True, yaxis=dict(title=f"{words}, {meaning.unit}" if meaning.unit not in words else words),
        showlegend=1 < len(names) <= STACKED_UP_TO,
    )  # fmt: skip
    if averaged:
        figure.add_scatter(x=steps, y=values, mode="lines", line=dict(color=palette.ink, width=1), opacity=0.22,
                           hoverinfo="skip", name="each")  # fmt: skip
        values = smooth(values)
    colours = palette.expert_colours(len(names)) if len(names) > 1 else [palette.ink]
    for line, colour, of_line in zip(names, colours, values.reshape(len(values), len(names)).T, strict=True):
        figure.add_scatter(x=steps, y=of_line, mode="lines", name=line, line=dict(color=colour, width=2),
                           hovertemplate=f"{line} %{{y:.4g}}<extra></extra>")  # fmt: skip
    return figure
