"""Sentences for the visitor, each shown once."""

from __future__ import annotations

import streamlit as st

from pages.text.markdown import escape_markdown

MOST = 4
"""Notices at a time. A link may be wrong in hundreds of places, and the page below should still be seen."""


def show(notices: list[str]) -> None:
    """Show them as they are, not as Markdown, and forget them."""
    with st.container():  # there with and without notices: what comes below keeps its place, else it is mounted anew
        for notice in notices[:MOST]:
            st.warning(escape_markdown(notice), icon=":material/info:")
        if len(notices) > MOST:
            st.warning(f"And {len(notices) - MOST} more of this kind.", icon=":material/info:")
    notices.clear()
