"""Anybody's model: its routing as `moe_sim.watch` has recorded it, live while it trains, or from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import streamlit as st

from moe_sim.charts.traces import TraceScene
from moe_sim.diagnosis.traces import diagnose_layers, diagnose_trace
from moe_sim.diagnosis.verdict import Diagnosis
from moe_sim.history.trace import TraceHistory
from moe_sim.history.trace_format import NotATraceError
from moe_sim.live.trace_folder import Summary
from pages.text.markdown import escape_markdown
from pages.traces import charts, how_to, listing, one_trace
from pages.traces.export import export
from pages.traces.my_traces import MyTraces, my_traces
from pages.visitor import hosting, session
from pages.visitor.session import Session
from pages.visitor.theme import current_theme
from pages.visitor.widgets import one_of, reported

FOLLOW = 0.5
"""Seconds between looks at what is new."""
NONE, WORST = "none", ""
EXAMPLE = (
    "An example: a tiny Mixtral of transformers, trained on the text that ships with Python. Its own load-balancing "
    "loss is off, and all layers collapse. From step 101 on, a loss of each layer brings them back. “Watch yours” says "
    "how to see your own model here."
)

hosting.stand_in_frame()


def _draw(visitor: Session, traces: MyTraces) -> None:
    summaries = traces.summaries()
    names = [one.name for one in summaries]
    wanted = visitor.traces.name
    if wanted and wanted not in names:
        st.warning(f"There is no trace named {escape_markdown(wanted)} here.", icon=":material/info:")
    chosen = wanted if wanted in names else names[0] if names else ""
    with st.sidebar:
        listing.draw(visitor, traces, summaries, chosen)
    with st.container(horizontal=True, vertical_alignment="bottom", key="trace-heading"):
        st.title("Your model", anchor=False, width="content")
        history = _opened(traces, chosen) if chosen else None
        if history is not None:
            _controls(visitor, history, [name for name in names if name != chosen])
            layer = _layer(visitor, history)
            st.button("Export", icon=":material/download:", on_click=export,
                      args=(history, layer, visitor.thresholds))  # fmt: skip
        with st.popover("Watch yours", icon=":material/code:"):
            how_to.draw()
    if history is None:
        how_to.draw()
    elif not len(history):
        st.info(f"**{escape_markdown(chosen)}** has no record yet. This page will show the first one.")
    else:
        _show(visitor, traces, chosen, history)
    if traces.folder.can_grow:
        shown = _state(traces, visitor, chosen, summaries)
        st.fragment(_follow, run_every=FOLLOW)(traces, shown, chosen, visitor, looks=count())


def _opened(traces: MyTraces, name: str) -> TraceHistory | None:
    try:
        return traces.history(name)
    except NotATraceError as error:
        st.warning(escape_markdown(str(error)), icon=":material/info:")
        return None


def _controls(visitor: Session, history: TraceHistory, others: list[str]) -> None:
    """The choice of the layer and of a second trace."""
    verdicts = diagnose_layers(history, visitor.thresholds)
    names = history.layer_names
    short = dict(zip(names, history.short_names, strict=True))
    words = {name: f"{short[name]}: {verdict.state}" for name, verdict in zip(names, verdicts, strict=True)}
    st.session_state["trace-layer"] = visitor.traces.layer if visitor.traces.layer in names else WORST
    st.selectbox(
        "Layer", [WORST, *names], key="trace-layer", width=230, format_func=lambda name: words.get(name, "the worst"),
        on_change=lambda: visitor.look_at_trace(
            layer=one_of(reported("trace-layer"), [WORST, *names], WORST)
        ),
    )  # fmt: skip
    if others:
        st.session_state["trace-beside"] = visitor.traces.beside if visitor.traces.beside in others else NONE
        st.selectbox(
            "Beside it", [NONE, *others], key="trace-beside", width=210,
            on_change=lambda: visitor.look_at_trace(
                beside=one_of(reported("trace-beside"), others, "")
            ),
        )  # fmt: skip


def _layer(visitor: Session, history: TraceHistory) -> int:
    """The number of the chosen layer; the worst one's if none is chosen."""
    names = history.layer_names
    if visitor.traces.layer in names:
        return names.index(visitor.traces.layer)
    return diagnose_trace(history, visitor.thresholds).layer or 0


def _show(visitor: Session, traces: MyTraces, name: str, history: TraceHistory) -> None:
    theme = current_theme()
    second = traces.known(visitor.traces.beside) if visitor.traces.beside not in ("", name) else None
    if second is None or not len(second):
        scene = _introduce(visitor, name, history)
        if traces.folder.folder is None and name not in traces.opened:
            st.caption(EXAMPLE)
        charts.draw_one(scene, theme)
        if history.num_layers > 1:
            st.markdown("**Layers**")
            one_trace.layers_table(history, diagnose_layers(history, visitor.thresholds))
        return
    left, right = st.columns(2)
    with left:
        first = _introduce(visitor, name, history)
    with right:
        other = _introduce(visitor, visitor.traces.beside, second)
    charts.draw_both(replace(first, beside=second), replace(other, beside=history), theme)


def _introduce(visitor: Session, name: str, history: TraceHistory) -> TraceScene:
    """Shows what a trace is of and the verdict on it, and returns what its charts show."""
    layer = _layer(visitor, history)
    st.markdown(f"**{escape_markdown(name)}** · {one_trace.about(history)}")
    verdict: Diagnosis = diagnose_trace(history, visitor.thresholds)
    one_trace.verdict(verdict)
    if layer != verdict.layer:
        own = diagnose_layers(history, visitor.thresholds)[layer]
        st.caption(f"{escape_markdown(history.layer_names[layer])}: {own.state}. {escape_markdown(own.evidence)}")
    return TraceScene(history, layer, visitor.thresholds)


def _state(traces: MyTraces, visitor: Session, chosen: str, summaries: Sequence[Summary]) -> tuple[Any, ...]:
    """What the page shows; it changes when there is something new."""
    shown = [traces.known(name) for name in (chosen, visitor.traces.beside) if name]
    return tuple(summaries), tuple(history.bytes_read for history in shown if history is not None)


def _follow(traces: MyTraces, shown: tuple[Any, ...], chosen: str, visitor: Session, looks: Iterator[int]) -> None:
    """Draws the page again when there is something new. Draws nothing itself.

    The first look belongs to the drawing of the page and is left out. Else, where records come faster than the page is
    drawn, no drawing would ever end, and the browser would fall further and further behind.
    """
    if next(looks) and _state(traces, visitor, chosen, traces.summaries()) != shown:
        st.rerun()


_visitor = session.current()
_draw(_visitor, my_traces(_visitor))
