"""The sidebar: presets and one control for each knob, made from `KNOBS`."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import streamlit as st

from moe_sim import KNOBS, PRESETS, RunConfig
from moe_sim.codec import format_value
from moe_sim.config import MAIN
from moe_sim.knobs import Knob
from pages.session import Session


def draw(session: Session) -> None:
    """Draw all controls as they stand in the run's configuration; moving one acts on the session."""
    with st.container(key="title", gap=None):
        st.title("Expert Collapse Lab", anchor=False)
        st.markdown("A small Mixture-of-Experts model, training live. Can you keep its experts alive?")
    _presets(session)
    config = session.run.config
    knobs = [knob for knob in KNOBS.values() if knob.task in (None, config.task)]
    for group, members in groupby(knobs, key=lambda knob: knob.group):
        if group == MAIN:
            for knob in members:
                _control(session, knob, config)
        else:
            with st.expander(group):
                for knob in members:
                    _control(session, knob, config)
                    if knob.name == "seed":
                        st.button("New seed", on_click=session.new_seed, width="stretch")
    st.caption("↻ starts anew from step 0. Everything else acts on the run going on.")


def _presets(session: Session) -> None:
    # Buttons, not a selection: which preset the run is, the run itself tells.
    current = session.preset
    with st.container(horizontal=True, key="presets"):
        for name, preset in PRESETS.items():
            st.button(
                preset.label,
                key=f"preset-{name}",
                help=preset.description,
                type="primary" if name == current else "secondary",
                on_click=session.choose_preset,
                args=(name,),
            )


def _control(session: Session, knob: Knob, config: RunConfig) -> None:
    """The widget that fits the knob. It shows the run's value, whatever moved it."""
    value = getattr(config, knob.name)
    key = _widget_key(knob, value)

    def moved() -> None:
        session.change(**{knob.name: st.session_state[key]})

    st.session_state.setdefault(key, value)
    common: dict[str, Any] = dict(key=key, help=knob.help, on_change=moved)
    if knob.choices:
        st.selectbox(knob.label, knob.choices, format_func=lambda name: name.replace("_", " "), **common)
    elif knob.kind is bool:
        st.toggle(knob.label, **common)
    elif knob.stops:
        stops = sorted({value, *knob.stops}, key=lambda stop: float("inf") if stop is None else stop)
        st.select_slider(knob.label, stops, format_func=format_value, **common)
    elif knob.name == "seed":
        st.number_input(knob.label, knob.minimum, knob.maximum, step=1, **common)
    else:
        low, high, step = (knob.kind(number) for number in (knob.minimum, knob.maximum, knob.step or 1))
        high = min(high, config.num_experts) if knob.name == "top_k" else high
        st.slider(knob.label, low, high, step=step, **common)


def _widget_key(knob: Knob, value: Any) -> str:
    """The widget's key, a new one each time that something else than the widget moved the knob: a browser may report
    the old position once more, and under a new key nobody listens to it. Its beginning tells the style sheet whether
    the knob restarts."""
    versions: dict[str, int] = st.session_state.setdefault("widget_versions", {})
    key = f"{'live' if knob.live else 'restart'}-{knob.name}-{{}}"
    version = versions.setdefault(knob.name, 0)
    if st.session_state.get(key.format(version), value) != value:
        versions[knob.name] = version = version + 1
    return key.format(version)
