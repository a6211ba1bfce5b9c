"""The main page: the dashboard of the visitor's run."""

from __future__ import annotations

import streamlit as st

from moe_sim.palette import Theme
from pages import dashboard
from pages.session import current

FALLBACK_INTERVAL = 0.5
"""Seconds between two updates through the page, where the stream cannot be reached."""

session = current()
mount = dashboard.register()
theme: Theme = "dark" if st.context.theme.type == "dark" else "light"
data = session.remembered(
    "payload", (session.run.id, theme, session.thresholds), lambda: dashboard.payload(session.run, theme)
)


def _obey() -> None:
    command = st.session_state[dashboard.KEY].get("command")
    if isinstance(command, dict):
        session.command(command)


def _mount(message: str | None = None) -> None:
    mount(
        key=dashboard.KEY,
        data=data | {"message": message},
        on_command_change=_obey,
        on_transport_change=lambda: None,
    )


if st.session_state.get(dashboard.KEY, {}).get("transport") == "component":

    @st.fragment(run_every=FALLBACK_INTERVAL)
    def _fed() -> None:
        _mount(session.next_message())

    _fed()
else:
    _mount()
