"""The list of traces in the sidebar, each with its verdict, and what brings more of them here."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from moe_sim.config.errors import InvalidInput
from moe_sim.live.trace_folder import Summary
from moe_sim.live.uploaded_traces import LARGEST_UPLOAD
from pages.text.markdown import escape_markdown
from pages.traces.my_traces import MyTraces
from pages.visitor.session import Session
from pages.visitor.widgets import reported, text_of

FILTERED_FROM = 8
"""The number of traces from which the list has a filter."""
MOST_SHOWN = 30
ICONS = {
    "bad": ":material/error:", "warning": ":material/warning:", "recovering": ":material/trending_up:",
    "good": ":material/check_circle:", "neutral": ":material/hourglass_empty:",
}  # fmt: skip
"""By the level of a verdict."""


def draw(session: Session, traces: MyTraces, summaries: Sequence[Summary], chosen: str) -> None:
    """Draws the list and the file uploader."""
    st.header("Traces", anchor=False)
    shown = list(summaries)
    if len(summaries) >= FILTERED_FROM:
        wanted = text_of(st.text_input("Filter", key="trace-filter", placeholder="part of a name")).lower()
        shown = [one for one in summaries if wanted in one.name.lower()]
    with st.container(key="trace-list"):
        for one in shown[:MOST_SHOWN]:
            st.button(
                f"**{escape_markdown(one.name)}**: {_verdict(one)}", key=f"trace-{crc32(one.name.encode())}",
                type="primary" if one.name == chosen else "secondary", icon=ICONS[one.verdict.level],
                help=escape_markdown(one.about) or None, width="stretch",
                on_click=session.look_at_trace, kwargs={"name": one.name},
            )  # fmt: skip
    if len(shown) > MOST_SHOWN:
        st.caption(f"And {len(shown) - MOST_SHOWN:,} more: filter the list.")
    if traces.folder.folder is not None and not summaries:
        st.caption(f"No trace in {escape_markdown(str(traces.folder.folder))} yet. This page will show it.")
    with st.expander("Open a trace"):
        st.file_uploader("A trace.jsonl", type="jsonl", max_upload_size=LARGEST_UPLOAD, key="trace-upload",
                         on_change=_open, args=(session, traces))  # fmt: skip


def _verdict(summary: Summary) -> str:
    layer = f", {summary.layer}" if summary.layer and summary.verdict.level in ("bad", "warning") else ""
    return escape_markdown(f"{summary.verdict.state}{layer}")


def _open(session: Session, traces: MyTraces) -> None:
    upload = reported("trace-upload")
    if isinstance(upload, UploadedFile):  # not one that has been removed meanwhile
        try:
            session.look_at_trace(name=traces.open(upload.name, upload.getvalue()))
        except InvalidInput as error:
            session.notices.append(str(error))
