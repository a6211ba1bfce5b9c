"""Plotly figures of a run, a comparison or a sweep: pure functions of data."""

from moe_sim.charts.html_page import run_to_html
from moe_sim.charts.page import PAGE_FIGURES, page_figures
from moe_sim.charts.scene import Scene
from moe_sim.charts.slides import slide_figure

__all__ = ["PAGE_FIGURES", "Scene", "page_figures", "run_to_html", "slide_figure"]
