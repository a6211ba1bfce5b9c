"""Runs in lock-step, side by side: what one knob changes, and what if it had been moved earlier."""

from __future__ import annotations

import streamlit as st

from pages.dashboard import comparison_board
from pages.sidebar import comparison_controls
from pages.text import notices
from pages.visitor import hosting
from pages.visitor.session import current

hosting.stand_in_frame()
visitor = current()
comparison = visitor.comparison()
with st.sidebar:
    comparison_controls.draw(visitor, comparison)
notices.show(comparison.notices)
comparison_board.show(visitor, comparison.run, comparison.command, comparison.next_message)
