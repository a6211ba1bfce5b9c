"""Widgets for knobs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import streamlit as st

from moe_sim.config.codec import format_value
from moe_sim.config.knob import Knob
from moe_sim.config.run_config import RunConfig
from moe_sim.router.balancing import METHODS


def knob_widget(knob: Knob, value: Any, beside: Any, **options: Any) -> Any:
    """Draws the widget for a knob.

    Args:
        knob: a knob of a run or of the diagnosis.
        value: the initial value. It is not set through the session state, since the browser would then miss it if the
            script run that created the widget is interrupted.
        beside: the configuration or thresholds that the knob belongs to; other knobs there may limit this one.
        **options: `key`, `help` and other options that all widgets share.

    Returns:
        The widget's current value.
    """
    if knob.choices:
        return st.selectbox(knob.label, knob.choices, knob.choices.index(value),
                            format_func=lambda name: choice_in_words(knob, name), **options)  # fmt: skip
    if knob.kind is str:
        pairs = [f"{one}-{other}" for one, other in combinations(range(1, beside.num_experts + 1), 2)]
        return st.selectbox(knob.label, [None, *pairs], pairs.index(value) + 1 if value else 0,
                            format_func=format_value, **options)  # fmt: skip
    if knob.kind is bool:
        return st.toggle(knob.label, value, **options)
    if knob.stops:
        stops = sorted({value, *knob.stops}, key=lambda stop: float("inf") if stop is None else stop)
        return st.select_slider(knob.label, stops, value, format_func=format_value, **options)
    if knob.name == "seed":
        return st.number_input(knob.label, knob.minimum, knob.maximum, value, step=1, **options)
    low, high, step = (knob.kind(number) for number in (knob.minimum, knob.maximum, knob.step or 1))
    return st.slider(knob.label, low, min(high, _ceiling(knob, beside)), value, step=step, **options)


def choice_in_words(knob: Knob, name: str) -> str:
    """The label of a choice."""
    return METHODS[name].label if knob.name == "balancing" else name.replace("_", " ")


def _ceiling(knob: Knob, beside: Any) -> float:
    """The maximum that another knob sets for this one."""
    if not isinstance(beside, RunConfig):
        return float("inf")
    if knob.name == "top_k":
        return beside.num_experts
    return max(beside.num_topics - 1, beside.topic_shift) if knob.name == "topic_shift" else float("inf")
