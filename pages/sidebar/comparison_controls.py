"""The sidebar of the Compare page: presets, how each run differs from A, and branching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from moe_sim.config.codec import format_value
from moe_sim.config.comparison_presets import COMPARISONS
from moe_sim.config.knobs import KNOBS, short_name
from moe_sim.config.run_plan import NAMES, course_in_words, differing_knobs
from moe_sim.history.markers import markers
from pages.sidebar.knob_widgets import knob_widget
from pages.visitor.comparison import ComparisonSession, plan_of
from pages.visitor.session import Session

LATEST = 100_000


def draw(session: Session, comparison: ComparisonSession) -> None:
    """Draws the controls."""
    with st.container(horizontal=True, key="presets-comparisons"):
        for name, preset in COMPARISONS.items():
            plans = preset.plans(comparison.run.plans[0].config.seed)
            st.button(
                preset.label, key=f"comparison-{name}", help=preset.description,
                type="primary" if comparison.run.plans == plans else "secondary",
                on_click=comparison.begin, args=(plans,),
            )  # fmt: skip
    _first(session, comparison)
    for which in range(1, len(comparison.run.members)):
        _other(comparison, which)
    if len(comparison.run.members) < len(NAMES):
        st.button("Add a run", icon=":material/add:", on_click=comparison.add, width="stretch")
    with st.expander("What if … branch from the Live run"):
        _branch(session, comparison)


def _first(session: Session, comparison: ComparisonSession) -> None:
    with st.container(border=True):
        st.markdown("**A** · baseline")
        live = plan_of(session.run)
        same = comparison.run.plans[0] == live
        st.button("Use the Live run as A", disabled=same, width="stretch",
                  on_click=lambda: comparison.begin((live, live.changed(()))),
                  help="From its start, with all changes made to it.")  # fmt: skip


def _other(comparison: ComparisonSession, which: int) -> None:
    name, plans = NAMES[which], comparison.run.plans
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{name}** · differs from A in")
            if len(plans) > 2:
                st.button("", icon=":material/close:", key=f"remove-{name}", type="tertiary", help=f"Remove {name}",
                          on_click=comparison.remove, args=(which,))  # fmt: skip
        for knob in differing_knobs((plans[0], plans[which])):
            st.button(
                f"{short_name(knob)}: {course_in_words(plans[which].course(knob))}", key=f"departs-{name}-{knob}",
                icon=":material/undo:", type="tertiary", on_click=comparison.give_back, args=(which, knob),
                help=f"Reset to A's value: {course_in_words(plans[0].course(knob))}.",
            )  # fmt: skip
        with st.popover("Change …", width="stretch"):
            knob, value = _pick(comparison, name, which)
            step = st.number_input("From step", 0, LATEST, 0, key=f"step-{name}", disabled=not KNOBS[knob].live)
            st.button("Restart with this change", key=f"depart-{name}", type="primary", width="stretch",
                      on_click=comparison.depart, args=(which, step if KNOBS[knob].live else 0, knob, value),
                      )  # fmt: skip
            st.button("Change it now, in the current run", key=f"move-{name}", width="stretch",
                      on_click=comparison.move, args=(which, knob, value), disabled=not KNOBS[knob].live)  # fmt: skip


def _pick(comparison: ComparisonSession, name: str, which: int) -> tuple[str, Any]:
    """Lets the visitor pick any knob and a value for it."""
    config = comparison.run.members[which].config
    return _knob_and_value(name, config, lambda knob: True)


def _branch(session: Session, comparison: ComparisonSession) -> None:
    run = session.run
    steps = len(run.history)
    if not steps:
        st.caption("Train a run on the Live page first. Then branch off at any of its steps with one knob changed.")
        return
    changes = (
        ", ".join(f"{marker.label} at step {marker.step}" for marker in markers(run.history)) or "no knob was changed"
    )
    st.caption(f"The Live run has {steps} steps; {changes}. What if you had done something else?")
    step = st.slider("Branch at step", 0, steps, min(100, steps), key="branch-step")
    knob, value = _knob_and_value("branch", run.history.config_at(step + 1), lambda knob: KNOBS[knob].live)
    st.button("Branch", type="primary", width="stretch", on_click=comparison.branch, args=(run, step, knob, value),
              help=f"A is the run as it was. B is the same with {short_name(knob)} {format_value(value)} from that "
              "step on. Both restart and catch up to it at full speed.")  # fmt: skip


def _knob_and_value(place: str, config: Any, usable: Callable[[str], bool]) -> tuple[str, Any]:
    options = [name for name, knob in KNOBS.items() if knob.task in (None, config.task) and usable(name)]
    name = st.selectbox("Knob", options, key=f"knob-{place}", format_func=lambda name: KNOBS[name].label)
    knob = KNOBS[name]
    value = knob_widget(knob, getattr(config, name), config, key=f"value-{place}-{name}", help=knob.help)
    return name, value
