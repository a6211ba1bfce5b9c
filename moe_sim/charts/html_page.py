"""A run as one self-contained HTML page: no network, no server."""

from __future__ import annotations

import html

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from moe_sim.charts.figure import mark_events
from moe_sim.charts.palette import PALETTES
from moe_sim.charts.scene import Scene
from moe_sim.charts.slides import name_map_colours, shown_figures, small_print
from moe_sim.config.codec import format_value
from moe_sim.config.knobs import KNOBS
from moe_sim.diagnosis.verdict import Diagnosis, diagnose

NETWORK = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""The page's Content-Security-Policy: nothing may be fetched."""

STYLE = """
body { font: 16px/1.5 "Source Sans", "Source Sans Pro", system-ui, sans-serif; color: %(ink)s;
  background: %(background)s; max-width: 75rem; margin: 0 auto; padding: 2rem 1.5rem; }
h1, h2 { line-height: 1.2; margin: 2rem 0 .5rem; }
h1 { margin-top: 0; }
.state { padding: .75rem 1rem; border-left: 4px solid %(accent)s; background: %(accent_ground)s; }
.state.recovering { border-color: %(progress)s; background: %(progress_ground)s; }
.state.warning, .state.bad { border-color: %(danger)s; background: %(danger_ground)s; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(32rem, 100%%), 1fr)); gap: 2rem; }
figure { margin: 0; min-width: 0; border-top: 1px solid %(hairline)s; }
figcaption { padding: .5rem 0; }
figcaption span, small, td + td + td { color: %(muted)s; }
small { display: block; overflow-wrap: anywhere; }
.plot { height: 360px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid %(hairline)s; }
tr.changed td { font-weight: 600; }
"""


def run_to_html(scene: Scene, link: str = "", *, diverged: bool = False) -> str:
    """One interactive page in light colours: the diagnosis, the small print, every figure, changed knobs and the whole
    configuration. About 5 MB, most of it Plotly.js.

    Args:
        scene: the run.
        link: the address of the live run; only an http or https address becomes a clickable link.
        diverged: whether a loss or gradient became infinite or NaN.
    """
    state = diagnose(scene.run, scene.config, scene.thresholds, diverged=diverged)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{NETWORK}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(_title(scene, state))}</title>",
            f"<style>{STYLE % vars(PALETTES['light'])}</style>",
            f"<script>{get_plotlyjs()}</script>\n</head>\n<body>",
            f"<h1>{html.escape(_title(scene, state))}</h1>",
            _state_line(state),
            f"<p>{_link(link)}</p>" if link else "",
            f"<p><small>{html.escape(small_print(scene, link))}</small></p>",
            "<main>",
            *(_figure(name, figure, scene) for name, figure in shown_figures(scene).items()),
            "</main>",
            _events(scene),
            _configuration(scene),
            "</body>\n</html>\n",
        ]
    )


def _title(scene: Scene, state: Diagnosis) -> str:
    return f"Expert Collapse Lab: {state.state.lower()} at step {len(scene.history):,}"


def _state_line(state: Diagnosis) -> str:
    words = html.escape(" ".join(part for part in (state.evidence, state.advice) if part))
    return f'<p class="state {state.level}"><strong>{html.escape(state.state)}.</strong> {words}</p>'


def _link(link: str) -> str:
    words = html.escape(link)
    if not link.startswith(("http://", "https://")):
        return words
    return f'<a href="{words}" rel="noreferrer">Open this run live</a>'


def _figure(name: str, figure: go.Figure, scene: Scene) -> str:
    meta = figure.layout.meta or {}
    if meta.get("time"):
        mark_events(figure, scene)
    if name == "routing_map":
        name_map_colours(figure, scene)
    title = html.escape(figure.layout.title.text)
    figure.update_layout(title_text=None, autosize=True)
    plot = figure.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, div_id=f"figure-{name}",
        config={"displaylogo": False, "responsive": True},
    )  # fmt: skip
    caption = html.escape(meta.get("caption") or "")
    return (
        f'<figure id="{name}"><figcaption><strong>{title}</strong> <span>{caption}</span></figcaption>'
        f'<div class="plot">{plot}</div></figure>'
    )


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
