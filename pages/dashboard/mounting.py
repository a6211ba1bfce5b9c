"""How a board of charts gets onto a page: its scripts and what it needs to know, with or without the stream."""

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
from moe_sim.history.history import COARSE
from moe_sim.history.series import SIGNALS
from moe_sim.live.background_run import RATES, BackgroundRun
from moe_sim.metrics import SMOOTHING_HORIZON
from moe_sim.server.http import PLOTLY_PATH, plotly_script
from moe_sim.server.messages import LETTERS, SHARE_SCALE
from pages.dashboard.inbox import Inbox
from pages.dashboard.modules import join_modules
from pages.visitor import hosting

FALLBACK_INTERVAL = 0.5
"""Seconds between two updates through the page, where the stream cannot be reached."""
UNTIL_SENT = 0.1
"""Seconds within which Streamlit, which sends every 5 ms, has surely sent what was drawn."""
_FOLDER = Path(__file__).parent


def mount(
    name: str,
    script: str,
    data: dict[str, Any],
    command: Callable[[dict[str, Any]], None],
    next_message: Callable[[], str],
) -> None:
    """Draw a board, and obey its buttons.

    Args:
        name: of the component, of its html file and of its key.
        script: the stem of its entry file in js/, whose default export is the component.
        data: what it needs to know.
        command: called with what a button asks for.
        next_message: what is new, for a page that is fed without the stream.
    """
    # To be registered by the script at each run; registering is idempotent.
    draw_board = st.components.v2.component(
        f"expert_collapse_{name}",
        html=(_FOLDER / f"{name}.html").read_text(encoding="utf-8"),
        css=(_FOLDER / "dashboard.css").read_text(encoding="utf-8"),
        js=join_modules(_FOLDER / "js" / f"{script}.js"),
        isolate_styles=False,
    )

    inbox: Inbox = st.session_state.setdefault(f"inbox of {name}", Inbox(data["session"]))

    def obey() -> None:
        for one in inbox.fresh(st.session_state[name].get("commands")):
            command(one)

    def is_fed() -> bool:
        return not hosting.routes_served() or st.session_state.get(name, {}).get("transport") == "component"

    def draw(message: str | None = None) -> None:
        draw_board(
            key=name,
            data=data | {"message": message, "obeyed": inbox.obeyed},
            on_commands_change=obey,
            on_transport_change=lambda: None,
        )

    obeyed = inbox.obeyed

    def feed() -> None:
        draw(next_message())
        if not is_fed() or inbox.obeyed != obeyed:  # the stream is back, or a command has changed more than the board
            st.rerun()
        # When the same fragment runs again before that, Streamlit drops the drawing, yet tells the browser that the run
        # is over, which then removes the board.
        time.sleep(UNTIL_SENT)

    if is_fed():
        st.fragment(feed, run_every=FALLBACK_INTERVAL)()
    else:
        with st.container():  # as a fragment has one, or the board would be mounted anew when the transport changes
            draw()
    if not hosting.routes_served():
        _bring_plotly()


def _bring_plotly() -> None:
    """Give Plotly's JavaScript to the browser as a component of its own, which is sent once: the board's is sent anew
    with each message."""
    told = "export default () => { dispatchEvent(new Event('plotly')); }"
    st.components.v2.component("expert_collapse_plotly", js=f"{plotly_script()}\n{told}")(key="plotly")


def current_theme() -> Theme:
    """The theme that the visitor sees."""
    return "dark" if st.context.theme.type == "dark" else "light"


def common_payload(run: BackgroundRun, thresholds: Thresholds, theme: Theme) -> dict[str, Any]:
    """What every board needs to know: addresses (None where the server does not answer them), colours, lines."""
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
            "uneven_ratio": thresholds.healthy_high / max(thresholds.healthy_low, 0.01),
        },
    }
