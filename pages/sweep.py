"""Many runs at once: a grid over knobs and seeds with results as they arrive, and a precomputed gallery."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from moe_sim.config.errors import InvalidInput
from pages.sweeps import form, progress, views
from pages.sweeps.my_sweeps import MINE, MySweeps, my_sweeps
from pages.sweeps.upload import LARGEST_UPLOAD
from pages.text.markdown import escape_markdown
from pages.visitor import hosting, session
from pages.visitor.theme import current_theme
from pages.visitor.widgets import one_of, reported

REDRAW = 2.0
"""Seconds between redraws of the views while rows arrive."""

hosting.stand_in_frame()
visitor = session.current()
sweeps = my_sweeps(visitor.server.sweeps)
theme = current_theme()


def _views(sweeps: MySweeps) -> None:
    table = sweeps.table()
    if len(table.frame) or sweeps.under_way:  # else it could not run, and there is nothing to draw
        views.draw(table, theme)


def _open() -> None:
    upload = reported("sweep-upload")
    if isinstance(upload, UploadedFile):  # not one that has been removed meanwhile
        try:
            sweeps.open(upload.name, upload.getvalue())
        except InvalidInput as error:
            visitor.notices.append(str(error))


def _choose() -> None:
    sweeps.chosen = one_of(reported("sweep-chosen"), sweeps.choices, sweeps.chosen)


with st.sidebar:
    form.draw(visitor, sweeps)
    with st.expander("Open a sweep"):
        st.file_uploader("A table from the command line (Parquet or CSV)", type=["parquet", "csv"],
                         max_upload_size=LARGEST_UPLOAD, key="sweep-upload", on_change=_open)  # fmt: skip

table = sweeps.table()
with st.container(horizontal=True, vertical_alignment="center"):
    st.title("Sweep", anchor=False, width="content")
    if len(sweeps.choices) > 1:
        st.session_state["sweep-chosen"] = sweeps.chosen
        st.segmented_control("Show", sweeps.choices, key="sweep-chosen", label_visibility="collapsed",
                             format_func=escape_markdown, required=True, on_change=_choose,
                             width="content")  # fmt: skip
    if table.about:
        st.markdown(escape_markdown(table.about), width="content")
if sweeps.chosen == MINE or sweeps.under_way:
    progress.draw(sweeps)
redraw = REDRAW if sweeps.chosen == MINE and sweeps.under_way else None
st.fragment(_views, run_every=redraw)(sweeps)
if table.command:
    st.caption("The same from the command line")
    st.code(table.command, language=None, wrap_lines=True)
