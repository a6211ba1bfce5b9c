"""The sidebar of the Compare page: presets, how each run differs from A, and branching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from moe_sim.config.codec import format_value
from moe_sim.config.comparison_presets import COMPARISONS
from moe_sim.config.knobs import KNOBS, short_name
from moe_sim.config.run_config import RunConfig
from moe_sim.config.run_plan import NAMES, course_in_words, differing_knobs
from moe_sim.history.markers import markers
from moe_sim.live.live_run import LiveRun
from pages.sidebar.knob_widgets import knob_widget
from pages.visitor.comparison import RESCUE, ComparisonSession, plan_of
from pages.visitor.session import Session
from pages.visitor.widgets import one_of, reported, whole_number_in

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
                f"{short_name(knob)}: {course_in_words(plans[which].course(knob))}", key=f"difference-{name}-{knob}",
                icon=":material/undo:", type="tertiary", on_click=comparison.reset_difference, args=(which, knob),
                help=f"Reset to A's value: {course_in_words(plans[0].course(knob))}.",
            )  # fmt: skip
        with st.popover("Change …", width="stretch"):
            knob = _pick(name, comparison.run.members[which].config, lambda knob: True)
            live = KNOBS[knob].live
            st.number_input("From step", 0, LATEST, 0, key=f"step-{name}", disabled=not live)
            st.button("Restart with this change", key=f"restart-{name}", type="primary", width="stretch",
                      on_click=_restart_with_change, args=(comparison, which))  # fmt: skip
            st.button("Change it now, in the current run", key=f"change-{name}", width="stretch", disabled=not live,
                      on_click=_change_now, args=(comparison, which))  # fmt: skip


def _restart_with_change(comparison: ComparisonSession, which: int) -> None:
    if which < len(comparison.run.members):  # else it was removed in the same moment
        knob, value = _picked(NAMES[which], comparison.run.members[which].config)
        step = whole_number_in(reported(f"step-{NAMES[which]}"), 0, LATEST, 0) if KNOBS[knob].live else 0
        comparison.restart_with_change(which, step, knob, value)


def _change_now(comparison: ComparisonSession, which: int) -> None:
    if which < len(comparison.run.members):
        comparison.change_now(which, *_picked(NAMES[which], comparison.run.members[which].config))


def _branch(session: Session, comparison: ComparisonSession) -> None:
    run = session.run
    steps = len(run.history)
    if not steps:
        st.caption("Train a run on the Live page first. Then branch off at any of its steps with one knob changed.")
        return
    changes = (
        ", ".join(f"{marker.label} at step {marker.step:,}" for marker in markers(run.history)) or "no knob was changed"
    )
    st.caption(f"The Live run has {steps:,} steps; {changes}. What if you had done something else?")
    step = _branch_step(run, st.slider("Branch at step", 0, steps, min(100, steps), key="branch-step"))
    then = run.history.config_at(step + 1)
    suggested = then if then.aux_loss_coef else then.replace(aux_loss_coef=RESCUE)  # something other than no change
    knob = _pick("branch", suggested, lambda knob: KNOBS[knob].live)
    value = st.session_state.get(_value_key("branch", knob), getattr(suggested, knob))
    st.button("Branch", type="primary", width="stretch", on_click=_branch_as_picked, args=(comparison, run),
              help=f"A is the run as it was. B is the same with {short_name(knob)} {format_value(value)} from that "
              "step on. Both restart and catch up to it at full speed.")  # fmt: skip


def _branch_step(run: LiveRun, value: Any) -> int:
    steps = len(run.history)
    return whole_number_in(value, 0, steps, min(100, steps))


def _branch_as_picked(comparison: ComparisonSession, run: LiveRun) -> None:
    step = _branch_step(run, reported("branch-step"))
    comparison.branch(run, step, *_picked("branch", run.history.config_at(step + 1)))


def _pick(place: str, config: RunConfig, usable: Callable[[str], bool]) -> str:
    """Draws a choice of knobs and the widget of the chosen one, whose name it returns. `config` holds the value shown
    at first."""
    options = [name for name, knob in KNOBS.items() if knob.is_offered(config.task) and usable(name)]
    chosen = st.selectbox("Knob", options, key=f"knob-{place}", format_func=lambda name: KNOBS[name].label)
    name = one_of(chosen, options, options[0])
    knob = KNOBS[name]
    knob_widget(knob, getattr(config, name), config, key=_value_key(place, name), help=knob.help)
    return name


def _picked(place: str, config: RunConfig) -> tuple[str, Any]:
    """The knob and the value picked in a form, read when its button is pressed: a script run that drew the form
    earlier may not have seen the last move of a slider."""
    knob = one_of(reported(f"knob-{place}"), KNOBS, next(iter(KNOBS)))
    return knob, reported(_value_key(place, knob), getattr(config, knob))


def _value_key(place: str, knob: str) -> str:
    return f"value-{place}-{knob}"
