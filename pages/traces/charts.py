"""The charts of one trace, or of two side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from moe_sim.charts.palette import Theme
from moe_sim.charts.traces import OF_ALL_LAYERS, TraceScene, draw, figure_names
from pages.text.markdown import escape_markdown

HEIGHT = 300
FIRST = (*OF_ALL_LAYERS, "utilization", "utilization_over_time", "imbalance")
"""The charts that come first; then what was logged, then the rest."""
MOST_DRAWN = 400
"""Charts that are kept for all visitors."""
CONFIG = {"displaylogo": False, "modeBarButtons": [["toImage", "resetScale2d"]],
          "toImageButtonOptions": {"format": "svg", "width": 1600, "height": 900}}  # fmt: skip


def draw_one(scene: TraceScene, theme: Theme) -> None:
    """Draws all charts in two columns."""
    names = ordered(scene)
    for begin in range(0, len(names), 2):
        columns = st.columns(2)
        for column, name in zip(columns, names[begin : begin + 2], strict=False):
            with column:
                _show(_figure_of(scene, name, theme), f"trace-{name}")


def draw_both(left: TraceScene, right: TraceScene, theme: Theme, only: Sequence[str] = ()) -> None:
    """Draws each chart of two traces side by side, on the same scale; or only those with these names."""
    names, there = ordered(left), ordered(right)
    for name in only or dict.fromkeys([*names, *there]):
        figures = [_figure_of(scene, name, theme) if known else None
                   for scene, known in ((left, name in names), (right, name in there))]  # fmt: skip
        align([figure for figure in figures if figure is not None])
        for place, column, figure in zip(("left", "right"), st.columns(2), figures, strict=True):
            with column:
                if figure is None:
                    st.caption(f"{escape_markdown(name.replace('_', ' '))}: not recorded here.")
                else:
                    _show(figure, f"trace-{place}-{name}")


def ordered(scene: TraceScene) -> list[str]:
    """The names of the charts that a trace has numbers for, the most telling first."""
    names, logged = figure_names(scene.history), scene.history.numbers
    return sorted(names, key=lambda name: 0 if name in FIRST else 1 if name in logged else 2)


def align(figures: Sequence[go.Figure]) -> None:
    """Gives the vertical axes of charts the same range: the largest of fixed ones that begin alike, or what holds all
    lines. Leaves alone what runs downwards or is logarithmic."""
    axes = [figure.layout.yaxis for figure in figures]
    if len(axes) < 2 or any(axis.type == "log" or axis.autorange == "reversed" for axis in axes):
        return
    ranges = [axis.range for axis in axes]
    if all(ranges):
        if any(one[0] != ranges[0][0] or one[0] > one[1] for one in ranges):
            return
        common = [ranges[0][0], max(one[1] for one in ranges)]
    else:
        values = np.concatenate([np.asarray(line.y, float) for figure in figures for line in figure.data])
        values = values[np.isfinite(values)]
        if not len(values) or values.min() == values.max():
            return
        margin = 0.05 * (values.max() - values.min())
        common = [float(values.min() - margin), float(values.max() + margin)]
    for axis in axes:
        axis.range = common


def _figure_of(scene: TraceScene, name: str, theme: Theme) -> go.Figure:
    """A copy of a chart that may have been drawn for others before."""
    history, lines = scene.history, tuple(scene.thresholds.model_dump().values())
    other = scene.beside
    key = (
        str(history.path), id(history), history.bytes_read, scene.layer, name, theme, lines,
        (id(other), other.bytes_read) if other is not None else None,
    )  # fmt: skip
    return go.Figure(_drawn(key, scene))


@st.cache_resource(show_spinner=False, max_entries=MOST_DRAWN, ttl=600)
def _drawn(key: tuple[Any, ...], _scene: TraceScene) -> go.Figure:
    name, theme = key[4:6]
    return draw(_scene, name, theme)


def _show(figure: go.Figure, key: str) -> None:
    caption = (figure.layout.meta or {}).get("caption") or ""
    st.markdown(f"**{escape_markdown(figure.layout.title.text)}** :gray[{escape_markdown(caption)}]")
    figure.update_layout(title=None, height=figure.layout.height or HEIGHT, uirevision="kept")
    st.plotly_chart(figure, key=key, theme=None, config=CONFIG)
