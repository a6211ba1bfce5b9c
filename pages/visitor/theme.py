"""The theme of a visitor's page."""

from __future__ import annotations

import streamlit as st

from moe_sim.charts.palette import Theme


def current_theme() -> Theme:
    """The one that the visitor sees; light until the browser has told."""
    return "dark" if st.context.theme.type == "dark" else "light"
