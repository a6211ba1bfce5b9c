"""What is said about a trace: the verdict, the layers."""

from __future__ import annotations

import streamlit as st

from moe_sim.config.words import plural
from moe_sim.diagnosis.traces import ranking
from moe_sim.diagnosis.verdict import Diagnosis
from moe_sim.history.trace import TraceHistory
from pages.text.markdown import escape_markdown
from pages.traces.listing import ICONS

BOXES = {"bad": st.error, "warning": st.warning, "recovering": st.info, "good": st.success, "neutral": st.info}


def verdict(diagnosis: Diagnosis) -> None:
    """Shows a verdict with its evidence and advice."""
    advice = f"  \n{escape_markdown(diagnosis.advice)}" if diagnosis.advice else ""
    BOXES[diagnosis.level](f"**{diagnosis.state}.** {escape_markdown(diagnosis.evidence)}{advice}",
                           icon=ICONS[diagnosis.level])  # fmt: skip


def about(history: TraceHistory) -> str:
    """One line of Markdown that says what a trace is of."""
    header = history.header
    step = f"step {int(history.last('step')):,}, {plural(len(history), 'record')}" if len(history) else "no record yet"
    most = history.num_experts
    size = f"{plural(history.num_layers, 'layer')} of {most} experts"
    parts = [header.model, header.framework, size, step]
    if history.skipped:
        parts.append(f"{plural(history.skipped, 'damaged line')} skipped")
    if history.truncated:
        parts.append("the rest does not fit into memory")
    return escape_markdown(" · ".join(filter(None, parts)))


def layers_table(history: TraceHistory, verdicts: list[Diagnosis]) -> None:
    """All layers, the worst first."""
    order = ranking(history, verdicts)
    last = len(history) - 1
    ratios, dead = history.by_layer("smoothed_imbalance", last)[0], history.by_layer("dead_experts", last)[0]
    st.dataframe(
        {
            "layer": [history.layer_names[one] for one in order],
            "verdict": [verdicts[one].state for one in order],
            "experts": [history.header.layers[one].num_experts for one in order],
            "dead": [int(dead[one]) for one in order],
            "busiest, %": [round(100 * float(history.now(one).max()), 1) for one in order],
            "max / min": ["∞" if ratios[one] == float("inf") else f"{ratios[one]:.3g}" for one in order],
            "evidence": [verdicts[one].evidence for one in order],
        },
        hide_index=True, key="trace-layers",
    )  # fmt: skip
