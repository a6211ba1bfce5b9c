"""A trace as a self-contained HTML page, and its charts as slides."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from moe_sim.charts.html_document import html_document
from moe_sim.charts.slides import plain_slide
from moe_sim.charts.traces import TraceScene, draw, figure_names
from moe_sim.config.codec import format_value
from moe_sim.config.thresholds import Thresholds
from moe_sim.config.words import percent
from moe_sim.diagnosis.traces import diagnose_layers, diagnose_trace, ranking
from moe_sim.history.trace import TraceHistory


def trace_to_html(history: TraceHistory, layer: int | None = None, thresholds: Thresholds | None = None) -> str:
    """One interactive page in light colours: the verdict, every chart, the layers and the model's settings.

    Args:
        history: the trace.
        layer: the layer of the charts that show one; None for the worst.
        thresholds: of the verdicts; None for the defaults.
    """
    known = thresholds or Thresholds()
    verdict = diagnose_trace(history, known)
    scene = TraceScene(history, (verdict.layer or 0) if layer is None else layer, known)
    figures = {name: draw(scene, name) for name in figure_names(history)}
    title = f"{history.header.model or 'A model'}: {verdict.state.lower()}"
    words = [f"<p><small>{html.escape(small_print(scene))}</small></p>"]
    return html_document(title, verdict, words, figures, [_layers(history, known), _settings(history)])


def trace_slide(scene: TraceScene, name: str) -> go.Figure:
    """A chart of a trace for a slide of 1600 × 900."""
    return plain_slide(draw(scene, name), small_print(scene))


def small_print(scene: TraceScene) -> str:
    """One line of plain text that identifies a trace."""
    header, history = scene.history.header, scene.history
    step = f"step {int(history.last('step')):,}" if len(history) else "no record"
    return " · ".join(filter(None, [header.model, header.framework, f"layer {scene.layer_name}", step]))


def _layers(history: TraceHistory, thresholds: Thresholds) -> str:
    verdicts = diagnose_layers(history, thresholds)
    rows = [
        f"<tr><td>{html.escape(history.layer_names[layer])}</td><td>{history.header.layers[layer].num_experts}</td>"
        f"<td>{percent(history.now(layer).max())}</td><td>{html.escape(verdicts[layer].state)}</td></tr>"
        for layer in (ranking(history, verdicts) if len(history) else range(history.num_layers))
    ]
    head = "<tr><th>layer</th><th>experts</th><th>busiest</th><th>verdict</th></tr>"
    return f"<h2>Layers</h2>\n<table>{head}{''.join(rows)}</table>"


def _settings(history: TraceHistory) -> str:
    rows = [
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(format_value(value))}</td></tr>"
        for name, value in history.header.settings.items()
    ]
    return f"<h2>Settings</h2>\n<table>{''.join(rows)}</table>" if rows else ""
