"""The live chart component: one element that draws the whole dashboard and keeps its place while data flows."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import plotly
import streamlit as st

from moe_sim.balancing import METHODS
from moe_sim.charts import Scene, page_figures
from moe_sim.derived import SIGNALS
from moe_sim.glossary import KNOB_NAMES, METRICS
from moe_sim.history import History
from moe_sim.knobs import KNOBS
from moe_sim.live import LiveRun
from moe_sim.palette import PALETTES, Theme
from moe_sim.playback import RATES
from moe_sim.terms import TERMS, Level
from pages.session import Session

KEY = "dashboard"
FALLBACK_INTERVAL = 0.5
"""Seconds between two updates through the page, where the stream cannot be reached."""
_FOLDER = Path(__file__).parent
_SCRIPTS = ("store.js", "bindings.js", "plots.js", "chrome.js", "lessons.js", "tabs.js", "stream.js", "main.js")
"""In this order they are one JavaScript module; the last one exports the component."""


def register() -> Any:
    """The mounting command. To be called by the script at each run: registering is idempotent."""
    return st.components.v2.component(
        "expert_collapse_dashboard",
        html=(_FOLDER / "dashboard.html").read_text(encoding="utf-8"),
        css=(_FOLDER / "dashboard.css").read_text(encoding="utf-8"),
        js="\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        isolate_styles=False,
    )


def show(session: Session) -> None:
    """Draw the dashboard of the session's run."""
    mount = register()
    theme: Theme = "dark" if st.context.theme.type == "dark" else "light"
    key = (session.run.id, theme, session.thresholds, session.view.level)
    data = session.remembered("payload", key, lambda: payload(session.run, theme, session.view.level))
    data = data | {
        "tab": session.view.tab, "log": session.view.log, "hide": sorted(session.view.hide),
        "watching": session.following is not None,
    }  # fmt: skip

    def obey() -> None:
        command = st.session_state[KEY].get("command")
        if isinstance(command, dict):
            session.command(command)

    def draw(message: str | None = None) -> None:
        mount(
            key=KEY,
            data=data | {"message": message},
            on_command_change=obey,
            on_transport_change=lambda: None,
        )

    if st.session_state.get(KEY, {}).get("transport") == "component":
        st.fragment(lambda: draw(session.next_message()), run_every=FALLBACK_INTERVAL)()
    else:
        draw()


def payload(run: LiveRun, theme: Theme, level: Level = "beginner") -> dict[str, Any]:
    """What the component needs to know of a run beside its stream: figures without data, colours, words."""
    base = "/" + str(st.get_option("server.baseUrlPath") or "").strip("/")
    base = base.rstrip("/")
    palette = PALETTES[theme]
    task = run.trainer.task
    lines = run.thresholds
    blank = Scene(History(run.history.initial_config), run.config, run.probe, task, lines)
    colours = {name: colour for name, colour in asdict(palette).items() if isinstance(colour, str)}
    return {
        "run_id": run.id,
        "stream_url": f"{base}/live/{run.id}",
        "slide_url": f"{base}/slide/{run.id}",
        "plotly_url": f"{base}/plotly-{plotly.__version__}.js",
        "figures": {name: json.loads(figure.to_json()) for name, figure in page_figures(blank, theme).items()},
        "num_experts": run.config.num_experts,
        "batch_tokens": run.config.batch_tokens,
        "groups": task.group_names,
        "group_noun": task.group_noun,
        "passages": task.held_out.passages,
        "signals": SIGNALS,
        "mechanisms": {
            name: {
                "label": method.label,
                "explanation": method.explanation,
                "weighs_a_loss": "aux_loss_coef" in method.knobs,
                "looks_at_batch": method.looks_at_batch,
            }
            for name, method in METHODS.items()
        },
        "metrics": [(metric.name, metric.formula, metric.balanced, metric.elsewhere) for metric in METRICS],
        "knob_names": KNOB_NAMES,
        "terms": {name: term.short for term in TERMS if term.explained_to(level) for name in term.names},
        "shift": ", ".join(KNOBS[name].label for name in task.shift_knobs),
        "rates": [rate if math.isfinite(rate) else 0 for rate in RATES],
        "context": {
            "theme": theme,
            "palette": colours | {"panel": palette.scale[0]},
            "colours": palette.expert_colours(run.config.num_experts),
            "dead_share": lines.dead_share,
            "many_dropped": lines.many_dropped,
            "uneven_ratio": lines.healthy_high / max(lines.healthy_low, 0.01),
        },
    }
