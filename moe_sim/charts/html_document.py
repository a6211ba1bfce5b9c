"""A self-contained HTML page of figures: no network, no server."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from moe_sim.charts.palette import PALETTES
from moe_sim.diagnosis.verdict import Diagnosis

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


def html_document(
    title: str, state: Diagnosis, words: Sequence[str], figures: Mapping[str, go.Figure], tables: Sequence[str]
) -> str:
    """One interactive page in light colours. About 5 MB, most of it Plotly.js.

    Args:
        title: plain text.
        state: the diagnosis.
        words: paragraphs below it, as HTML.
        figures: the figures by name. Their titles and captions are shown beside them and taken away from them.
        tables: what follows the figures, as HTML.
    """
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{NETWORK}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{STYLE % vars(PALETTES['light'])}</style>",
            f"<script>{get_plotlyjs()}</script>\n</head>\n<body>",
            f"<h1>{html.escape(title)}</h1>",
            _state_line(state),
            *words,
            "<main>",
            *(_figure(name, figure, f"plot-{index}") for index, (name, figure) in enumerate(figures.items())),
            "</main>",
            *tables,
            "</body>\n</html>\n",
        ]
    )


def _state_line(state: Diagnosis) -> str:
    words = html.escape(" ".join(part for part in (state.evidence, state.advice) if part))
    return f'<p class="state {state.level}"><strong>{html.escape(state.state)}.</strong> {words}</p>'


def _figure(name: str, figure: go.Figure, plot_id: str) -> str:
    title, caption = figure.layout.title.text, (figure.layout.meta or {}).get("caption") or ""
    height = f' style="height:{figure.layout.height}px"' if figure.layout.height else ""
    figure.update_layout(title_text=None, autosize=True)
    plot = figure.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, div_id=plot_id,
        config={"displaylogo": False, "responsive": True},
    )  # fmt: skip
    return (
        f'<figure id="{html.escape(name)}"><figcaption><strong>{html.escape(title)}</strong> '
        f"<span>{html.escape(caption)}</span>"
        f'</figcaption><div class="plot"{height}>{plot}</div></figure>'
    )
