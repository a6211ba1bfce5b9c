"""Sentences for the visitor, each shown once."""

from __future__ import annotations

import streamlit as st


def show(notices: list[str]) -> None:
    """Show them as they are, not as Markdown, and forget them."""
    for notice in notices:
        st.warning(notice.replace("$", "\\$").replace("`", "'").replace("[", "\\["), icon=":material/info:")
    notices.clear()
