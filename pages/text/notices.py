"""Notices for the visitor, each shown once."""

from __future__ import annotations

import streamlit as st

from pages.text.markdown import escape_markdown

MOST = 4
"""The maximum number of notices shown. A link may have hundreds of errors, and the page must stay visible."""


def show(notices: list[str]) -> None:
    """Shows the notices as plain text, not Markdown, and clears the list."""
    with st.container():  # even without notices, so that elements below keep their place and are not remounted
        for notice in notices[:MOST]:
            st.warning(escape_markdown(notice), icon=":material/info:")
        if len(notices) > MOST:
            st.warning(f"And {len(notices) - MOST} more.", icon=":material/info:")
    notices.clear()
