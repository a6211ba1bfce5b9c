"""Runs in lockstep, side by side: the effect of changing one knob, and of changing it earlier."""

from __future__ import annotations

import streamlit as st

from pages.dashboard import comparison_board
from pages.sidebar import comparison_controls
from pages.visitor import hosting
from pages.visitor.commands import obey_beside
from pages.visitor.session import current

hosting.stand_in_frame()
visitor = current()
comparison = visitor.comparison()
with st.sidebar:
    comparison_controls.draw(visitor, comparison)
comparison.notices.show()
comparison_board.show(
    visitor, comparison.run, lambda command: obey_beside(visitor, comparison, command), comparison.next_message
)
