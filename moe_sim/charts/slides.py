"""Figures for slides, and the small print that identifies the run."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.compare import comparison_drawings
from moe_sim.charts.figure import mark_events
from moe_sim.charts.page import PAGE_FIGURES, figure_names
from moe_sim.charts.palette import PALETTES
from moe_sim.charts.scene import Scene
from moe_sim.config.codec import events_to_text, format_value
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS
from moe_sim.config.words import percent

WIDTH, HEIGHT = 1600, 900
TITLE, TEXT, SMALL = 44, 24, 16
"""Type sizes in pixels; everything but the small print is readable from the back row."""
LINE = 170
"""Characters per line of small print."""
MOST_LINES = 5
MARK_LINES = 4
"""The labels of changed knobs stand above the chart, on at most this many lines, so that neighbours do not overlap."""
MARK_LINE = TEXT + 12
"""The height of such a line in pixels."""
TITLE_HEIGHT = 150
MOVES_IN_WORDS = 6
MOST_NAMED = 16
"""The most experts in a legend."""
LEGEND_AT_THE_SIDE = dict(orientation="v", x=1.01, xanchor="left", y=1, yanchor="top")
SLIDE_SCALE = 2.0
"""The factor by which lines and dots are thicker than on the page."""


def shown_figures(scene: Scene) -> dict[str, go.Figure]:
    """The figures that the live page would show of a run, in light colours, by name; the routing map first."""
    names = sorted(figure_names(scene), key=lambda name: name != "routing_map")
    figures = {name: shown_figure(scene, name) for name in names}
    return {name: figure for name, figure in figures.items() if figure is not None}


def shown_figure(scene: Scene, name: str) -> go.Figure | None:
    """One of `shown_figures`, without drawing the others; None if the page would not show it."""
    if name not in figure_names(scene):
        return None
    figure = PAGE_FIGURES[name](scene, "light")
    only = (figure.layout.meta or {}).get("only") or {}
    return figure if all(getattr(scene.config, knob) == value for knob, value in only.items()) else None


def small_print(scene: Scene, link: str = "") -> str:
    """One line of plain text that identifies the run, in the syntax of the command line: knobs that differ from their
    defaults, seed, a mechanism or a task of the user's own, changed knobs, step, link."""
    config = scene.history.initial_config
    changed = [f"{name}={format_value(value)}" for name, value in config if value != KNOBS[name].default]
    seed = f"seed={config.seed}"
    parts = [" ".join(text for text in changed if text != seed) or "default configuration", seed]
    parts += [f"{kind} of its own: {name}" for kind, name in scene.run.own_parts.items()]
    if scene.history.events:
        parts.append(f"moved {_moves(scene.history.events)}")
    if scene.run.num_layers > 1:
        parts.append(scene.layer_in_words)
    return " · ".join([*parts, f"step {len(scene.history)}", *([link] if link else [])])


def slide_figure(figure: go.Figure, scene: Scene, link: str = "") -> go.Figure:
    """A copy of a light figure for a slide of 1600 × 900: large type, title and caption, changed knobs marked on time
    axes, and small print at the bottom. The figure itself stays unchanged."""
    return _slide(figure, [scene], small_print(scene, link))


def plain_slide(figure: go.Figure, words: str) -> go.Figure:
    """The same for a figure that belongs to no run of ours, with its own small print."""
    return _slide(figure, [], words)


def comparison_slide(name: str, scenes: Sequence[Scene], difference: str, link: str = "") -> go.Figure | None:
    """A figure of `comparison_figures` for a slide; None if there is none of that name.

    Args:
        name: of the figure.
        scenes: the runs side by side.
        difference: in what they differ, in words.
        link: to the comparison.
    """
    draw = comparison_drawings(scenes, "light").get(name)
    if draw is None:
        return None
    figure = draw()
    run = figure.layout.meta.get("run")
    if run is not None:
        return slide_figure(figure, scenes[run], link)
    slide = _slide(figure, scenes, f"{difference} A: {small_print(scenes[0], link)}")
    if name != "compare_timeline":
        slide.update_layout(showlegend=True)
    return slide


def _slide(figure: go.Figure, scenes: Sequence[Scene], words: str) -> go.Figure:
    slide, palette = go.Figure(figure), PALETTES["light"]
    meta = figure.layout.meta or {}
    notes, shapes = len(slide.layout.annotations), len(slide.layout.shapes)
    if meta.get("time"):
        for scene in scenes:
            mark_events(slide, scene)
    is_map = any((trace.meta or {}).get("kind") == "map" for trace in slide.data)
    if is_map:
        name_map_colours(slide, scenes[0])
    _enlarge(slide)
    marks = list(zip(slide.layout.annotations[notes:], slide.layout.shapes[shapes:], strict=True))
    margin = figure.layout.margin
    lines = textwrap.wrap(words, LINE)[:MOST_LINES]
    above = TITLE_HEIGHT + MARK_LINE * min(len(marks), MARK_LINES)
    below = (30 if is_map else 120) + 22 * len(lines)
    wide = dict(l=max(120, 2 * (margin.l or 0)), r=max(60, 2 * (margin.r or 0)), t=above, b=below)
    _raise_marks(marks, max((len(scene.history) for scene in scenes), default=0), plot_height=HEIGHT - above - below)
    slide.update_layout(
        width=WIDTH, height=HEIGHT, margin=wide, autosize=False,
        paper_bgcolor=palette.background, plot_bgcolor=palette.background, font=dict(size=TEXT, color=palette.ink),
        title=dict(
            font=dict(size=TITLE, color=palette.ink), x=0.02, xanchor="left", y=0.96, yanchor="top",
            subtitle=dict(text=meta.get("caption", ""), font=dict(size=TEXT, color=palette.muted)),
        ),
    )  # fmt: skip
    _show_experts(slide, wide)
    slide.add_annotation(
        text="<br>".join(html.escape(line) for line in lines), font=dict(size=SMALL, color=palette.muted), align="left",
        showarrow=False, xref="paper", x=0, xanchor="left", xshift=25 - wide["l"], yref="paper", y=0, yanchor="bottom",
        yshift=12 - wide["b"],
    )  # fmt: skip
    return slide


def _moves(events: tuple[Event, ...]) -> str:
    words = events_to_text(events).split(";")
    rest = f" and {len(words) - MOVES_IN_WORDS} more" if len(words) > MOVES_IN_WORDS else ""
    return ";".join(words[:MOVES_IN_WORDS]) + rest


def _enlarge(slide: go.Figure) -> None:
    """Enlarge type, lines and dots to be readable across a room."""
    type_size: dict[str, Any] = dict(title_font_size=TEXT + 2, tickfont_size=TEXT, automargin=True)
    slide.update_xaxes(**type_size)
    slide.update_yaxes(**type_size, title_standoff=18)
    slide.update_annotations(font_size=TEXT)
    slide.for_each_shape(lambda shape: _thicken(shape.line))
    slide.update_layout(legend=dict(font_size=TEXT, x=1, xanchor="right"))
    for trace in slide.data:
        if trace.type == "scatter":
            _thicken(trace.line)
            if trace.marker.size:
                trace.marker.size = SLIDE_SCALE * trace.marker.size
        if trace.type == "heatmap":
            trace.colorbar.update(tickfont_size=TEXT, thickness=24)


def _thicken(line: Any) -> None:
    if line.width:
        line.width = SLIDE_SCALE * line.width


def _raise_marks(
    marks: list[tuple[go.layout.Annotation, go.layout.Shape]], steps: int, plot_height: int
) -> None:  # fmt: skip
    """Let labels stand above the chart like flags at the ends of their lines, where they cover no curve. Early flags
    point to the right and stand the higher the earlier they are, late ones to the left and the higher the later: so no
    line crosses the label of another."""
    late = [mark for mark in marks if mark[0].x > 0.6 * steps]
    early = [mark for mark in marks if mark[0].x <= 0.6 * steps]
    for level, (label, line) in enumerate([*reversed(early), *late]):
        shift = 4 + MARK_LINE * (level % MARK_LINES)
        label.update(yanchor="bottom", yshift=shift, xshift=8)
        if label.x > 0.6 * steps:
            label.update(xanchor="right", xshift=-8)
        line.y1 = 1 + (shift + MARK_LINE / 2) / plot_height


def name_map_colours(figure: go.Figure, scene: Scene) -> None:
    """Give a routing map in light colours equal scales and a legend of its experts with their shares of the tokens; of
    more than `MOST_NAMED`, only the busiest."""
    palette, probe, num_experts = PALETTES["light"], scene.probe, scene.config.num_experts
    tokens = np.bincount(probe.expert, minlength=num_experts)
    colours = palette.expert_colours(num_experts)
    for expert in sorted(np.argsort(-tokens, kind="stable")[:MOST_NAMED]):
        share = percent(tokens[expert] / len(probe.expert)) if tokens[expert] else "none"
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=dict(size=9, color=colours[expert]),
                           name=f"expert {expert + 1}: {share}")  # fmt: skip
    if probe.dropped.any():
        hollow = dict(size=9, color=palette.background, line=dict(width=1.6, color=palette.ink))
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=hollow, name="dropped")
    figure.data[0].showlegend = False
    figure.update_xaxes(constrain="domain")
    figure.update_yaxes(scaleanchor="x", constrain="domain")
    figure.update_layout(showlegend=True, legend=LEGEND_AT_THE_SIDE, margin_r=180)


def _show_experts(slide: go.Figure, margin: dict[str, int]) -> None:
    """Add a legend to a figure with a line per expert; the page names the experts elsewhere."""
    names = [trace.name or "" for trace in slide.data]
    if 1 < len(names) <= MOST_NAMED and all(name.startswith("expert ") for name in names):
        slide.update_layout(showlegend=True, legend=LEGEND_AT_THE_SIDE, margin=margin | {"r": 200})
