"""The views of a sweep: each chart with its select boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from moe_sim.charts.palette import Theme
from moe_sim.charts.sweep import pareto, u_curve
from moe_sim.charts.sweep_maps import parallel_coordinates, phase_diagram
from moe_sim.config.knobs import KNOBS
from moe_sim.config.words import value_in_words
from moe_sim.sweep.measures import MEASURES, restricted
from pages.sweeps import table as table_view
from pages.sweeps.my_sweeps import Table
from pages.visitor.widgets import one_of

HEIGHT = 410
NONE = "none"
IMBALANCES = ("imbalance_ratio", "max_load", "eval_max_load", "dead_experts")
LOSSES = ("task_loss", "eval_task_loss")


def draw(table: Table, theme: Theme) -> None:
    """Shows the view that the visitor chooses."""
    name = st.segmented_control("View", VIEWS, default="U-curve", key="sweep-view", label_visibility="collapsed",
                                required=True)  # fmt: skip
    VIEWS[one_of(name, VIEWS, "U-curve")](table, theme)


def _u_curve(table: Table, theme: Theme) -> None:
    axes, columns = table.axes, _Choices()
    measure = columns.one("Measure", list(MEASURES), _measure)
    x = columns.one("Against", list(axes), _knob)
    series = columns.one("One line per", [*(name for name in axes if name != x), NONE], _knob)
    rest = columns.fixed(table, x, series)
    by = None if series == NONE else series
    key = ("u-curve", x, measure, by, theme, *rest.items())
    _show(table, key, lambda: u_curve(restricted(table.frame, rest), axes, x, measure, by, theme))


def _trade_off(table: Table, theme: Theme) -> None:
    columns = _Choices()
    imbalance = columns.one("Imbalance", IMBALANCES, _measure)
    loss = columns.one("Loss", LOSSES, _measure)
    colour = columns.one("Colour", [*reversed(list(table.axes)), NONE], _knob)
    by = None if colour == NONE else colour
    key = ("trade-off", imbalance, loss, by, theme)
    _show(table, key, lambda: pareto(table.frame, table.axes, imbalance, loss, by, theme))


def _phase_diagram(table: Table, theme: Theme) -> None:
    axes, columns = table.axes, _Choices()
    if len(axes) < 2:
        st.info("A phase diagram needs two knobs, but this sweep has only one.")
        return
    measure = columns.one("Measure", list(MEASURES), _measure)
    x = columns.one("x-axis", list(axes), _knob)
    y = columns.one("y-axis", [name for name in axes if name != x], _knob)
    rest = columns.fixed(table, x, y)
    key = ("phase-diagram", x, y, measure, theme, *rest.items())
    _show(table, key, lambda: phase_diagram(restricted(table.frame, rest), axes, x, y, measure, theme))


def _parallel(table: Table, theme: Theme) -> None:
    colour = _Choices().one("Colour", list(MEASURES), _measure)
    key = ("parallel-coordinates", colour, theme)
    _show(table, key, lambda: parallel_coordinates(table.frame, table.axes, colour, theme))


def _table(table: Table, theme: Theme) -> None:
    table_view.draw(table)


VIEWS: dict[str, Callable[[Table, Theme], None]] = {
    "U-curve": _u_curve, "Trade-off": _trade_off, "Phase diagram": _phase_diagram,
    "Parallel coordinates": _parallel, "Table": _table,
}  # fmt: skip


class _Choices:
    """A row of select boxes above a chart."""

    def __init__(self) -> None:
        self._row = st.container(horizontal=True, key="sweep-choices")

    def one(self, label: str, options: Sequence[Any], words: Callable[[Any], str]) -> Any:
        """Returns the choice in a select box."""
        return one_of(self._row.selectbox(label, options, format_func=words, width=220), options, options[0])

    def fixed(self, table: Table, *shown: str) -> dict[str, Any]:
        """Returns a value for each axis that the chart does not show."""
        return {
            name: self.one(KNOBS[name].label, values, value_in_words)
            for name, values in table.axes.items()
            if name not in shown
        }


def _measure(name: str) -> str:
    return MEASURES[name].label


def _knob(name: str) -> str:
    return NONE if name == NONE else KNOBS[name].label


def _show(table: Table, key: tuple[Any, ...], draw: Callable[[], go.Figure]) -> None:
    figure = table.figure(key, draw)
    st.markdown(f"**{figure.layout.title.text}** :gray[{figure.layout.meta['caption']}]")
    st.plotly_chart(go.Figure(figure).update_layout(title=None, height=HEIGHT), key=f"sweep-{key[0]}", theme=None,
                    config={"displayModeBar": False})  # fmt: skip
