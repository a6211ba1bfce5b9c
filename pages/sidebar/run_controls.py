"""The sidebar of a run: presets, and one control per knob, generated from `KNOBS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from moe_sim.config.knobs import KNOBS, THRESHOLDS, Knob
from moe_sim.config.presets import FAMILY, MECHANISM, PRESETS, SCENARIO, Kind
from moe_sim.config.run_config import MAIN, RunConfig
from moe_sim.config.thresholds import GROUP
from moe_sim.router.balancing import METHODS, PARTICULAR_KNOBS
from moe_sim.teaching.level import LEVELS
from pages.sidebar import own_text, sharing
from pages.sidebar.knob_widgets import knob_widget
from pages.visitor.session import Session
from pages.visitor.widgets import one_of, reported

FIRST_SCENARIOS = 3
"""Scenarios that are always in sight."""
GROUP_KEY = "group of knobs: "
"""What the keys of the groups begin with; their titles follow."""
MORE_SCENARIOS = "More scenarios"
KINDS: dict[Kind, str] = {SCENARIO: "", MECHANISM: "Other balancing methods", FAMILY: "As models set it"}
"""The kinds of presets, each with what stands above its buttons."""


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
            st.button("Share", icon=":material/share:", on_click=session.open_dialog, args=("share",))
            st.button("Export", icon=":material/download:", on_click=session.open_dialog, args=("export",))
        sharing.draw(session, pages)


def _watching(session: Session) -> None:
    st.info("You are watching a lecture. The lecturer controls it.")
    st.button("Branch off from here", type="primary", width="stretch", on_click=session.branch_off,
              help="Continues from this step in a copy that you control.")  # fmt: skip


def _level(session: Session) -> None:
    """The level of the explanations on every page."""
    st.segmented_control(
        "Explain for", LEVELS, default=session.view.level, key="level", required=True,
        on_change=lambda: session.look(level=one_of(reported("level"), LEVELS, session.view.level)),
        help="Sets how deep explanations go and how many terms are underlined, on every page.",
    )  # fmt: skip


def _controls(session: Session) -> None:
    hidden, config = session.view.hide, session.run.config
    groups: dict[str, list[Knob]] = {}
    for knob in KNOBS.values():
        if knob.is_offered(config.task) and knob.name not in hidden:
            groups.setdefault(knob.group, []).append(knob)
    for knob in sorted(groups.pop(MAIN, ()), key=lambda knob: bool(knob.choices)):  # the mechanism after the sliders
        _control(session, knob, lambda: session.run.config, session.change)
    _scenarios(session)
    for group, knobs in groups.items():
        _when_open(group, partial(_knobs, session, knobs))
    if "thresholds" not in hidden:
        _when_open(GROUP, partial(_thresholds, session))
    st.caption("↻ restarts from step 0. Everything else acts on the current run.")


def _when_open(title: str, draw: Callable[[], None]) -> None:
    """A group that is drawn when it is open: the page appears sooner without some thirty widgets that nobody sees."""
    group = st.expander(title, key=f"{GROUP_KEY}{title}", on_change="rerun")
    if group.open:
        with group:
            draw()


def _knobs(session: Session, knobs: Sequence[Knob]) -> None:
    for knob in knobs:
        if _matters(knob, session.run.config):
            _control(session, knob, lambda: session.run.config, session.change)
        if knob.name == "seed":
            st.button("New seed", on_click=session.new_seed, width="stretch")
        if knob.name == "domain_mix" and session.run.config.task == "language":
            own_text.draw(session)


def _thresholds(session: Session) -> None:
    st.caption("Tools disagree about these thresholds. They change the verdict, not the run.")
    for knob in THRESHOLDS.values():
        _control(session, knob, lambda: session.thresholds, session.move_threshold)


def _scenarios(session: Session) -> None:
    """The first scenarios and the active preset; all others in a group, by kind."""
    hidden = session.view.hide
    kinds = {kind: [name for name, one in PRESETS.items() if one.kind == kind] for kind in KINDS}
    if "presets" in hidden:
        del kinds[SCENARIO]
    if "mechanisms" in hidden:
        del kinds[MECHANISM], kinds[FAMILY]
    first = kinds.get(SCENARIO, [])[:FIRST_SCENARIOS]
    active = session.preset
    if active is not None and active not in first and any(active in names for names in kinds.values()):
        first.append(active)
    if first:
        _presets(session, first, "first")
    more = {kind: [name for name in names if name not in first] for kind, names in kinds.items()}
    if any(more.values()):
        _when_open(MORE_SCENARIOS, partial(_more_scenarios, session, more))


def _more_scenarios(session: Session, presets: Mapping[Kind, Sequence[str]]) -> None:
    for kind, names in presets.items():
        if names:
            if KINDS[kind]:
                st.caption(KINDS[kind])
            _presets(session, names, kind)


def _presets(session: Session, names: Sequence[str], row: str) -> None:
    # Buttons, not a selection: which preset is active is derived from the run.
    current = session.preset
    with st.container(horizontal=True, key=f"presets-{row}"):
        for name in names:
            preset = PRESETS[name]
            st.button(
                preset.label,
                key=f"preset-{name}",
                help=preset.description,
                type="primary" if name == current else "secondary",
                on_click=session.choose_preset,
                args=(name,),
            )


def _matters(knob: Knob, config: RunConfig) -> bool:
    """Whether the current mechanism uses the knob as it is configured."""
    return knob.name not in PARTICULAR_KNOBS or knob.name in METHODS[config.balancing].uses(config)


def _control(session: Session, knob: Knob, read: Callable[[], Any], act: Callable[..., None]) -> None:
    """Draws the knob's widget. It always shows the knob's current value; moving it calls `act`."""
    versions: dict[str, int] = st.session_state.setdefault("widget_versions", {})
    in_step: dict[str, Any] = st.session_state.setdefault("in_step", {})  # the value that widget and knob last shared
    key = _widget_key(knob, versions)
    value = getattr(read(), knob.name)
    shown = st.session_state.get(key, value)
    if shown != value and in_step.get(knob.name) == value:  # only the widget has moved, and its callback was not called
        act(**{knob.name: shown})
        value = getattr(read(), knob.name)
    if shown != value:
        # Something other than the widget has changed the knob. Another key, so that a browser's late report of the old
        # value is not taken for a move.
        versions[knob.name] = versions.get(knob.name, 0) + 1
        key = _widget_key(knob, versions)
    in_step[knob.name] = value
    drawn_for = session.run

    def moved() -> None:
        with session.acting:  # read under the lock, since a later move may have come first
            shown = reported(key, value)  # it may be gone, when the visitor leaves
            is_outdated = key != _widget_key(knob, versions)
            if shown == value and (is_outdated or session.run is not drawn_for):
                return  # an outdated widget that reports the value it was drawn with: nobody has moved it
            act(**{knob.name: shown})
            if is_outdated or getattr(read(), knob.name) != shown:  # it was refused
                in_step.pop(knob.name, None)
            else:
                in_step[knob.name] = shown

    values = read()
    unused = isinstance(values, RunConfig) and not _matters(knob, values)
    help = f"{METHODS[values.balancing].label} does not use this knob. {knob.help}" if unused else knob.help
    knob_widget(knob, value, values, key=key, help=help, on_change=moved, disabled=unused)


def _widget_key(knob: Knob, versions: Mapping[str, int]) -> str:
    """Returns the widget's key. The style sheet marks knobs by its prefix."""
    return f"{'live' if knob.live else 'restart'}-{knob.name}-{versions.get(knob.name, 0)}"
