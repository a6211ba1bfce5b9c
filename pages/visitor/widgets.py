"""Reads widgets' values. A browser offers only valid ones, but other clients may report anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")


def reported(key: str, default: Any = None) -> Any:
    """Returns the value of a widget, for use in callbacks. When a callback reads `st.session_state` in the usual way,
    Streamlit may interrupt it for the next report of the browser, and what the visitor did is lost."""
    try:
        return st.session_state.to_dict().get(key, default)
    except KeyError:  # the client has reported a widget that does not exist
        return st.session_state.get(key, default)


def one_of(value: Any, options: Iterable[T], default: T) -> T:
    """Returns the option that equals `value`, or the default."""
    return next((option for option in options if type(option) is type(value) and option == value), default)


def number_in(value: Any, low: float, high: float, default: float) -> float:
    """Returns a number, moved into the range if it lies outside; the default for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return default
    return min(max(value, low), high)


def whole_number_in(value: Any, low: int, high: int, default: int) -> int:
    """`number_in` for whole numbers."""
    return int(number_in(value, low, high, default))


def text_of(value: Any) -> str:
    """Returns a text; empty for anything else."""
    return value if isinstance(value, str) else ""


def entry_of(value: Any, name: str) -> Any:
    """Returns an entry of a component's state; None if there is none."""
    return value.get(name) if isinstance(value, Mapping) else None
