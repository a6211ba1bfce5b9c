"""A run as something to keep: a JSON document that opens again, a table, a page, a figure for a slide."""

from __future__ import annotations

from moe_sim.export.document import run_to_json
from moe_sim.export.page import run_to_html
from moe_sim.export.reading import run_from_json
from moe_sim.export.slides import shown_figures, slide_figure, small_print
from moe_sim.export.table import frame_to_csv, run_to_csv

__all__ = [
    "frame_to_csv",
    "run_from_json",
    "run_to_csv",
    "run_to_html",
    "run_to_json",
    "shown_figures",
    "slide_figure",
    "small_print",
]
