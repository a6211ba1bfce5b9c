"""What lessons read from a history: smoothed values, means over 20 steps, and knob changes.

Every function accepts a history of any length. Missing values are NaN, which meets no criterion.
"""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.history.history import History
from moe_sim.history.layer import Layer
from moe_sim.history.series import evaluations, smoothed_imbalance
from moe_sim.metrics import SMOOTHING_HORIZON
from moe_sim.teaching.course.lesson import Criterion

WINDOW = SMOOTHING_HORIZON
"""Steps that a mean covers."""
LOOKS = 5
"""Evaluations on held-out tokens that a mean covers."""


def mean(history: History, name: str, stop: int | None = None) -> float:
    """Mean of a scalar column over the 20 steps up to step `stop` (None: the newest); NaN if any is missing."""
    values = _window(history, name, stop)
    return float(values.mean()) if len(values) else np.nan


def per_expert(history: History, name: str, stop: int | None = None) -> np.ndarray:
    """(E,) means of a per-expert column over the 20 steps up to step `stop`; NaN if any is missing."""
    values = _window(history.layer(), name, stop)
    return values.mean(0) if len(values) else np.full(values.shape[1:], np.nan)


def _window(history: History | Layer, name: str, stop: int | None) -> np.ndarray:
    end = len(history) if stop is None else stop
    values = history.column(name, max(0, end - WINDOW), end)
    return values if end <= len(history) and len(values) == WINDOW else values[:0]


def smoothed_load(history: History, stop: int | None = None) -> np.ndarray:
    """The (E,) smoothed load after step `stop` (None: the newest)."""
    end = len(history) if stop is None else stop
    values = history.layer().column("smoothed_load", 0, end)
    return values[-1] if 0 < end <= len(history) else np.full(values.shape[1:], np.nan)


def token_share(history: History, stop: int | None = None) -> float:
    """The busiest expert's smoothed share of the tokens after step `stop`."""
    end = len(history) if stop is None else stop
    return float(smoothed_load(history, stop).max() * history.config_at(max(1, end)).top_k)


def dead(history: History, stop: int | None = None) -> float:
    """The largest number of experts dead at once in the 20 steps up to step `stop`."""
    values = _window(history, "dead_experts", stop)
    return float(values.max()) if len(values) else np.nan


def ratio(history: History, stop: int | None = None) -> float:
    """max/min of the smoothed load after step `stop`; ∞ where an expert got nothing."""
    end = len(history) if stop is None else stop
    values = smoothed_imbalance(history.layer(), max(0, end - 1), end) if 0 < end <= len(history) else np.array([])
    return float(values[-1]) if len(values) else np.nan


def held_out_load(history: History, stop: int | None = None) -> float:
    """The busiest expert's load in inference: mean of the newest 5 evaluations up to step `stop`, 10 steps apart."""
    values = evaluations(history.layer(), "eval_load", 0, stop)[-LOOKS:]
    return float(values.mean(0).max()) if len(values) == LOOKS else np.nan


def first_move(history: History, name: str, after: int = 0) -> Event | None:
    """The first change of a knob at step `after` or later."""
    return next((event for event in history.events if name in event.changes and event.step >= after), None)


def first_even_stretch(history: History, after: int, highest: float = np.inf) -> int | None:
    """The end of the first 20 consecutive steps after step `after` in which no expert is dead and none has a larger
    share of the choices than `highest`; None if there is no such stretch."""
    end = len(history)  # the run may train on between two reads
    share = history.layer().column("smoothed_load", after, end).max(1)
    is_even = (history.column("dead_experts", after, end) == 0) & (share <= highest)
    if len(is_even) < WINDOW:
        return None
    stretches = np.lib.stride_tricks.sliding_window_view(is_even, WINDOW).all(1)
    return after + WINDOW + int(stretches.argmax()) if stretches.any() else None


def steps_since(history: History, *names: str) -> int:
    """Steps since any of these knobs last changed; all steps if none did."""
    changed_at = [event.step for event in history.events if event.changes.keys() & set(names)]
    return len(history) - max(changed_at, default=0)


def enough_steps(history: History, steps: int) -> Criterion:
    """The criterion of a minimum number of steps."""
    return Criterion(f"Train for at least {steps:,} steps.", len(history) >= steps, f"{len(history):,} steps")


def number(value: float, digits: int = 2) -> str:
    """Formats a number; ∞ for infinity, – for NaN."""
    return "–" if np.isnan(value) else "∞" if np.isinf(value) else f"{value:.{digits}f}"
