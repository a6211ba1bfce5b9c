"""The widget that fits a knob."""

from __future__ import annotations

from typing import Any

import streamlit as st

from moe_sim.config.codec import format_value
from moe_sim.config.knobs import Knob
from moe_sim.config.run_config import RunConfig
from moe_sim.router.balancing import METHODS


def knob_widget(knob: Knob, value: Any, beside: Any, **options: Any) -> Any:
    """Draw the widget of a knob.

    Args:
        knob: of a run or of the diagnosis.
        value: where it stands when it is new. As an argument and not through the session state: that way the browser
            learns of it also when the script run that made the widget was cut short.
        beside: the configuration or thresholds that it belongs to; other knobs there may bound this one.
        **options: `key`, `help` and what else all widgets know.

    Returns:
        The value that the widget shows.
    """
    if knob.choices:
        return st.selectbox(knob.label, knob.choices, knob.choices.index(value),
                            format_func=lambda name: choice_in_words(knob, name), **options)  # fmt: skip
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
    """A choice as the page writes it."""
    return METHODS[name].label if knob.name == "balancing" else name.replace("_", " ")


def _ceiling(knob: Knob, beside: Any) -> float:
    """What another knob allows this one to be."""
    if not isinstance(beside, RunConfig):
        return float("inf")
    if knob.name == "top_k":
        return beside.num_experts
    return max(beside.num_topics - 1, beside.topic_shift) if knob.name == "topic_shift" else float("inf")
