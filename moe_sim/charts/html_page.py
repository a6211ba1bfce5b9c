"""A run as one self-contained HTML page: no network, no server."""

from __future__ import annotations

import html

from moe_sim.charts.figure import mark_events
from moe_sim.charts.html_document import html_document
from moe_sim.charts.scene import Scene
from moe_sim.charts.slides import name_map_colours, shown_figures, small_print
from moe_sim.config.codec import format_value
from moe_sim.config.knobs import KNOBS
from moe_sim.diagnosis.verdict import Diagnosis, diagnose


def run_to_html(scene: Scene, link: str = "", *, diverged: bool = False) -> str:
    """One interactive page in light colours: the diagnosis, the small print, every figure, changed knobs and the whole
    configuration.

    Args:
        scene: the run.
        link: the address of the live run; only an http or https address becomes a clickable link.
        diverged: whether a loss or gradient became infinite or NaN.
    """
    state = diagnose(scene.run, scene.config, scene.thresholds, diverged=diverged)
    figures = shown_figures(scene)
    for name, figure in figures.items():
        if (figure.layout.meta or {}).get("time"):
            mark_events(figure, scene)
        if name == "routing_map":
            name_map_colours(figure, scene)
    words = [f"<p>{_link(link)}</p>"] if link else []
    words.append(f"<p><small>{html.escape(small_print(scene, link))}</small></p>")
    return html_document(_title(scene, state), state, words, figures, [_events(scene), _configuration(scene)])


def _title(scene: Scene, state: Diagnosis) -> str:
    return f"Expert Collapse Lab: {state.state.lower()} at step {len(scene.history):,}"


def _link(link: str) -> str:
    words = html.escape(link)
    if not link.startswith(("http://", "https://")):
        return words
    return f'<a href="{words}" rel="noreferrer">Open this run live</a>'


def _events(scene: Scene) -> str:
    rows = [
        f"<tr><td>{event.step:,}</td><td>{html.escape(KNOBS[name].label)}</td><td>{name}={_value(value)}</td></tr>"
        for event in scene.history.events
        for name, value in event.changes.items()
    ]
    if not rows:
        return "<h2>Changed knobs</h2>\n<p>None.</p>"
    head = "<tr><th>after step</th><th>knob</th><th>to</th></tr>"
    return f"<h2>Changed knobs</h2>\n<table>{head}{''.join(rows)}</table>"


def _configuration(scene: Scene) -> str:
    """Every knob at step 0, those that differ from their defaults first."""
    values = dict(scene.history.initial_config)
    changed = {name for name, value in values.items() if value != KNOBS[name].default}
    rows = [
        f"<tr{' class=changed' if name in changed else ''}><td>{html.escape(KNOBS[name].label)}</td>"
        f"<td>{name}={_value(values[name])}</td><td>{_value(KNOBS[name].default)}</td></tr>"
        for name in sorted(values, key=lambda name: name not in changed)
    ]
    head = "<tr><th>knob</th><th>at step 0</th><th>default</th></tr>"
    return f"<h2>Configuration</h2>\n<table>{head}{''.join(rows)}</table>"


def _value(value: object) -> str:
    return html.escape(format_value(value))
