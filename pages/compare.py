"""Runs in lock-step, side by side: what one knob changes, and what if it had been moved earlier."""

from __future__ import annotations

import streamlit as st

from pages import hosting, notices
from pages.comparing import controls
from pages.dashboard import side_by_side
from pages.session import current

hosting.stand_in_frame()
visitor = current()
bench = visitor.bench()
with st.sidebar:
    controls.draw(visitor, bench)
notices.show(bench.notices)
side_by_side.show(visitor, bench.run, bench.command, bench.next_message)
