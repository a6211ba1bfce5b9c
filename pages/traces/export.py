"""A trace as a file to take away."""

from __future__ import annotations

import streamlit as st

from moe_sim.charts.trace_page import trace_to_html
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.to_csv import frame_to_csv
from moe_sim.history.to_parquet import frame_to_parquet
from moe_sim.history.trace import TraceHistory
from moe_sim.server.warm_up import load_pandas

MOST_ROWS = 2_000_000
"""Rows of a table with one for each step, layer and expert that a page offers."""


@st.dialog("Export")
def export(history: TraceHistory, layer: int, thresholds: Thresholds) -> None:
    """Shows the download buttons."""
    load_pandas()  # before several threads want it
    rows = len(history) * history.header.num_cells
    name = history.path.parent.name or "trace"

    def parquet() -> bytes:
        return frame_to_parquet(history.to_frame(tidy=True), "trace")

    st.markdown("For a single figure, use the camera above its chart.")
    for label, ending, mime, make, words in (
        ("HTML", "html", "text/html", lambda: trace_to_html(history, layer, thresholds),
         "one interactive page with verdict and charts; works offline"),
        ("CSV", "csv", "text/csv", lambda: frame_to_csv(history.to_frame()), "one row per step"),
        ("Parquet", "parquet", "application/vnd.apache.parquet", parquet, "one row per step, layer and expert"),
    ):  # fmt: skip
        left, right = st.columns([1, 3], vertical_alignment="center")
        left.download_button(
            label, make, f"{name}.{ending}", mime, on_click="ignore", width="stretch",
            disabled=not len(history) or (ending != "html" and rows > MOST_ROWS),
        )  # fmt: skip
        right.markdown(words)
    if rows > MOST_ROWS:
        st.caption("This trace is too long for tables here: python -m moe_sim trace export writes them.")
