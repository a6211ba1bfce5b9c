"""The table of a sweep: one row per run, with a link that opens it as a live run, and downloads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from moe_sim.config.codec import format_value, to_link
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import value_in_words
from moe_sim.sweep.measures import MEASURES, plain, short_label, shown
from moe_sim.sweep.table import frame_to_rows, table_bytes
from pages.sweeps.my_sweeps import Table
from pages.visitor.address import address

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("task_loss", "eval_task_loss", "max_load", "imbalance_ratio", "dead_experts", "specialization")
"""Measures in the table. The files contain all measures."""
FILES = {"Parquet": (".parquet", "application/vnd.apache.parquet"), "CSV": (".csv", "text/csv")}
HEIGHT = 440
MOST_STYLED = 5_000
"""The maximum number of rows to style. Longer tables, where this is too slow, show Infinity instead of ∞."""


def draw(table: Table) -> None:
    """Shows the table and the download buttons."""
    frame = table.frame
    shown_frame, columns = _for_screen(table)
    if len(frame) <= MOST_STYLED:
        words = {name: format_value for name in table.axes if shown_frame[name].dtype.kind == "f"}
        shown_frame = shown_frame.style.format({**words, "imbalance_ratio": MEASURES["imbalance_ratio"].text})
    st.dataframe(shown_frame, column_config=columns, hide_index=True, height=HEIGHT, key="sweep-table")
    with st.container(horizontal=True):
        for label, (ending, mime) in FILES.items():
            st.download_button(
                label, partial(_file, frame, ending), f"sweep{ending}", mime, on_click="ignore",
                icon=":material/download:", disabled=not len(frame),
            )  # fmt: skip


def _file(frame: pd.DataFrame, ending: str) -> bytes:
    return table_bytes(frame_to_rows(frame), ending)


def _for_screen(table: Table) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The columns to show, and their display settings."""
    import pandas as pd

    frame, columns = table.frame, {}
    cells: dict[str, Any] = {"open": [link_to(row) for row in frame.to_dict("records")]}
    columns["open"] = st.column_config.LinkColumn(
        "Live", display_text="open", help="Opens this run on the Live page, where it trains exactly as it did here."
    )
    for name in (*table.axes, "seed"):
        numeric = KNOBS[name].kind in (int, float) and not KNOBS[name].optional
        values = [plain(name, value) for value in frame[name]]
        cells[name] = values if numeric else [value_in_words(value) for value in values]
        columns[name] = st.column_config.Column(short_label(name))
    for name in SHOWN:
        measure = MEASURES[name]
        cells[name] = shown(frame, name)
        digits = None if measure.log else f"%.{0 if name == 'dead_experts' else measure.digits}f"
        columns[name] = st.column_config.NumberColumn(measure.title, format=digits, help=measure.note)
    for name in ("steps_done", "status", "error"):
        cells[name] = frame[name]
        columns[name] = st.column_config.Column(name.replace("_", " "))
    return pd.DataFrame(cells), columns


def link_to(row: dict[str, Any]) -> str:
    """Returns a link that opens the row's run on the Live page and starts training."""
    config = RunConfig(**{name: plain(name, row[name]) for name in KNOBS})
    return address("", to_link(config) | {"autoplay": "1"})
