"""The sidebar of a run: presets, and one control per knob, generated from `KNOBS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from moe_sim.config.knobs import KNOBS, THRESHOLDS, Knob
from moe_sim.config.presets import MECHANISM, PRESETS, SCENARIO
from moe_sim.config.run_config import MAIN, RunConfig
from moe_sim.config.thresholds import GROUP
from moe_sim.router.balancing import METHODS, PARTICULAR_KNOBS
from moe_sim.teaching.level import LEVELS
from pages.sidebar import sharing
from pages.sidebar.knob_widgets import knob_widget
from pages.visitor.session import Session


def draw(session: Session, pages: Sequence[StreamlitPage], *, trains_live_run: bool) -> None:
    """Draws the title and, where the page trains the live run, its controls. Leaves out what the link hides."""
    hidden = session.view.hide
    with st.container(key="title", gap=None):
        st.title("Expert Collapse Lab", anchor=False)
        st.markdown("A small Mixture-of-Experts model, training live. Can you keep its experts alive?")
    if session.following is not None:
        _watching(session)
    elif trains_live_run:
        _controls(session)
    _level(session)
    if trains_live_run and "share" not in hidden:
        with st.container(horizontal=True, key="take-away"):
            st.button("Share", icon=":material/share:", on_click=sharing.open_dialog, args=("share",))
            st.button("Export", icon=":material/download:", on_click=sharing.open_dialog, args=("export",))
        sharing.draw(session, pages)


def _watching(session: Session) -> None:
    st.info("You are watching a lecture. The lecturer controls it.")
    st.button("Branch off from here", type="primary", width="stretch", on_click=session.branch_off,
              help="Continues from this step in a copy that you control.")  # fmt: skip


def _level(session: Session) -> None:
    """The level of the explanations on every page."""
    st.segmented_control(
        "Explain for", LEVELS, default=session.view.level, key="level", required=True,
        on_change=lambda: session.look(level=st.session_state["level"]),
        help="Sets how deep explanations go and how many terms are underlined, on every page.",
    )  # fmt: skip


def _controls(session: Session) -> None:
    hidden = session.view.hide
    if "presets" not in hidden:
        _presets(session, SCENARIO)
    if "mechanisms" not in hidden:
        with st.expander("Other balancing methods"):
            _presets(session, MECHANISM)
    config = session.run.config
    knobs = [knob for knob in KNOBS.values() if knob.task in (None, config.task) and knob.name not in hidden]
    for group, members in groupby(knobs, key=lambda knob: knob.group):
        if group == MAIN:
            for knob in members:
                _control(session, knob, lambda: session.run.config, session.change)
        else:
            with st.expander(group):
                for knob in members:
                    if _matters(knob, config):
                        _control(session, knob, lambda: session.run.config, session.change)
                    if knob.name == "seed":
                        st.button("New seed", on_click=session.new_seed, width="stretch")
    if "thresholds" not in hidden:
        with st.expander(GROUP):
            st.caption("Tools disagree about these thresholds. They change the verdict, not the run.")
            for knob in THRESHOLDS.values():
                _control(session, knob, lambda: session.thresholds, session.move_threshold)
    st.caption("↻ restarts from step 0. Everything else acts on the current run.")


def _presets(session: Session, kind: str) -> None:
    # Buttons, not a selection: which preset is active is derived from the run.
    current = session.preset
    with st.container(horizontal=True, key=f"presets-{kind}"):
        for name, preset in PRESETS.items():
            if preset.kind != kind:
                continue
            st.button(
                preset.label,
                key=f"preset-{name}",
                help=preset.description,
                type="primary" if name == current else "secondary",
                on_click=session.choose_preset,
                args=(name,),
            )


def _matters(knob: Knob, config: RunConfig) -> bool:
    """Whether the current mechanism uses the knob."""
    return knob.name not in PARTICULAR_KNOBS or knob.name in METHODS[config.balancing].knobs


def _control(session: Session, knob: Knob, read: Callable[[], Any], act: Callable[..., None]) -> None:
    """Draws the knob's widget. It always shows the knob's current value; moving it calls `act`."""
    drawn: dict[str, Any] = st.session_state.setdefault("drawn", {})
    key = _widget_key(knob)
    value = getattr(read(), knob.name)
    shown = st.session_state.get(key, value)
    if shown != value and drawn.get(knob.name) == value:
        # Only the widget has moved since it was drawn: the next script run interrupted its callback.
        act(**{knob.name: shown})
        value = getattr(read(), knob.name)
    if shown != value:
        key = _widget_key(knob, renew=True)
    drawn[knob.name] = value
    drawn_for = session.run

    def moved() -> None:
        with session.acting:  # read under the lock, since a later move may have come first
            shown = st.session_state[key]
            if shown == value and (key != _widget_key(knob) or session.run is not drawn_for):
                return  # an outdated widget that reports the value it was drawn with: nobody has moved it
            act(**{knob.name: shown})
            drawn.pop(knob.name, None)

    values = read()
    unused = isinstance(values, RunConfig) and not _matters(knob, values)
    help = f"{METHODS[values.balancing].label} does not use this knob. {knob.help}" if unused else knob.help
    knob_widget(knob, value, values, key=key, help=help, on_change=moved, disabled=unused)


def _widget_key(knob: Knob, *, renew: bool = False) -> str:
    """Returns the widget's key. It is renewed when something other than the widget has changed the knob, so that a
    browser's late report of the old value is not taken for a move. The style sheet marks knobs by the key's prefix."""
    versions: dict[str, int] = st.session_state.setdefault("widget_versions", {})
    versions[knob.name] = versions.get(knob.name, 0) + renew
    return f"{'live' if knob.live else 'restart'}-{knob.name}-{versions[knob.name]}"
