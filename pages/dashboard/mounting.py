"""Mounts a board of charts on a page, with or without the live stream."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import streamlit as st

from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.config.run_plan import NAMES
from moe_sim.config.thresholds import Thresholds
from moe_sim.diagnosis.verdict import SETTLING_STEPS
from moe_sim.history.columns import COARSE
from moe_sim.history.series import SIGNALS
from moe_sim.live.background_run import RATES, BackgroundRun
from moe_sim.metrics import SMOOTHING_HORIZON
from moe_sim.server.http import PLOTLY_PATH, plotly_script
from moe_sim.server.messages import LETTERS, SHARE_SCALE
from pages.dashboard.inbox import Inbox
from pages.dashboard.modules import join_modules
from pages.visitor import hosting
from pages.visitor.widgets import entry_of, reported

FALLBACK_INTERVAL = 0.5
"""Seconds between two updates through the page while the stream is not reachable."""
FLUSH_TIME = 0.1
"""Seconds after which Streamlit, which flushes every 5 ms, has certainly sent what was drawn."""
_FOLDER = Path(__file__).parent


def mount(
    name: str,
    script: str,
    data: dict[str, Any],
    command: Callable[[dict[str, Any]], None],
    next_message: Callable[[], str],
) -> None:
    """Draw a board and carry out its commands.

    Args:
        name: the name of the component, of its HTML file and of its key.
        script: the stem of its entry file in js/, whose default export is the component.
        data: the component's data.
        command: called with each new command.
        next_message: returns the newest message, for a page that is fed without the stream.
    """
    # Streamlit wants a component registered in every script run; registering is idempotent.
    draw_board = st.components.v2.component(
        f"expert_collapse_{name}",
        html=(_FOLDER / f"{name}.html").read_text(encoding="utf-8"),
        css=(_FOLDER / "dashboard.css").read_text(encoding="utf-8"),
        js=join_modules(_FOLDER / "js" / f"{script}.js"),
        isolate_styles=False,
    )

    inbox: Inbox = st.session_state.setdefault(f"inbox of {name}", Inbox(data["session"]))

    def obey() -> None:
        inbox.obey(lambda: entry_of(reported(name), "commands"), command)

    def is_fed() -> bool:
        return not hosting.routes_served() or entry_of(st.session_state.get(name), "transport") == "component"

    def draw(message: str | None = None) -> None:
        draw_board(
            key=name,
            # In a list: in a dictionary, Streamlit looks for data frames, and loads pandas for it.
            data=[data | {"message": message, "obeyed": inbox.obeyed}],
            on_commands_change=obey,
            on_transport_change=lambda: None,
        )

    obeyed = inbox.obeyed

    def feed() -> None:
        draw(next_message())
        if not is_fed() or inbox.obeyed != obeyed:  # the stream is back, or a command has changed more than the board
            st.rerun()
        # If the fragment reran before the flush, Streamlit would drop the drawing but report the run as finished, and
        # the browser would remove the board.
        time.sleep(FLUSH_TIME)

    if is_fed():
        st.fragment(feed, run_every=FALLBACK_INTERVAL)()
    else:
        with st.container():  # a fragment has one too: so the board is not remounted when the transport changes
            draw()
    if not hosting.routes_served():
        _send_plotly()


def _send_plotly() -> None:
    """Send Plotly's JavaScript as a component of its own, once; the board's JavaScript is sent with every message."""
    announcement = "export default () => { dispatchEvent(new Event('plotly')); }"
    st.components.v2.component("expert_collapse_plotly", js=f"{plotly_script()}\n{announcement}")(key="plotly")


def common_payload(run: BackgroundRun, thresholds: Thresholds, theme: Theme) -> dict[str, Any]:
    """The data of every board: addresses (None if the host does not serve them), encoding, colours, thresholds."""
    base, served = hosting.base_path(), hosting.routes_served()
    palette = PALETTES[theme]
    colours = {name: colour for name, colour in asdict(palette).items() if isinstance(colour, str)}
    return {
        "run_id": run.id,
        "stream_url": f"{base}/live/{run.id}" if served else None,
        "slide_url": f"{base}/slide/{run.id}" if served else None,
        "plotly_url": f"{base}{PLOTLY_PATH}" if served else None,
        "encoding": {
            "alphabet": LETTERS,
            "signals": SIGNALS,
            "block": COARSE,
            "horizon": SMOOTHING_HORIZON,
            "share_scale": SHARE_SCALE,
        },
        "rates": [rate if math.isfinite(rate) else 0 for rate in RATES],
        "context": {
            "theme": theme,
            "palette": colours | {"panel": palette.scale[0]},
            "runs": palette.runs,
            "run_names": NAMES,
            "settling_steps": SETTLING_STEPS,
            "dead_share": thresholds.dead_share,
            "many_dropped": thresholds.many_dropped,
            "uneven_ratio": thresholds.healthy_ratio,
        },
    }
