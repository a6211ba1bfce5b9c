"""Many runs at once: a grid over knobs and seeds, with results as they arrive, and one made before to begin with."""

from __future__ import annotations

import streamlit as st

from moe_sim.charts.palette import Theme
from moe_sim.config.errors import UsageError
from pages.sweeps import form, progress, views
from pages.sweeps.my_sweeps import MINE, Holding, mine
from pages.sweeps.upload import LARGEST_UPLOAD
from pages.text.markdown import literal
from pages.visitor import hosting, session

REDRAW = 2.0
"""Seconds between two drawings of the views while rows arrive."""

hosting.stand_in_frame()
visitor, holding = session.current(), mine()
theme: Theme = "dark" if st.context.theme.type == "dark" else "light"


def _views(holding: Holding) -> None:
    views.draw(holding.table(), theme)


def _open() -> None:
    upload = st.session_state["sweep-upload"]
    if upload is not None:
        try:
            holding.open(upload.name, upload.getvalue())
        except UsageError as error:
            visitor.notices.append(str(error))


def _choose() -> None:
    holding.chosen = st.session_state["sweep-chosen"]


with st.sidebar:
    form.draw(visitor, holding)
    with st.expander("Open a sweep"):
        st.file_uploader("A table that the command line made (Parquet or CSV)", type=["parquet", "csv"],
                         max_upload_size=LARGEST_UPLOAD, key="sweep-upload", on_change=_open)  # fmt: skip

table = holding.table()
with st.container(horizontal=True, vertical_alignment="center"):
    st.title("Sweep", anchor=False, width="content")
    if len(holding.choices) > 1:
        st.session_state["sweep-chosen"] = holding.chosen
        st.segmented_control("Show", holding.choices, key="sweep-chosen", label_visibility="collapsed",
                             format_func=literal, required=True, on_change=_choose, width="content")  # fmt: skip
    if table.about:
        st.markdown(literal(table.about), width="content")
if holding.chosen == MINE or holding.under_way:
    progress.draw(holding)
if table.command:
    st.code(table.command, language=None)
redraw = REDRAW if holding.chosen == MINE and holding.under_way else None
st.fragment(_views, run_every=redraw)(holding)
