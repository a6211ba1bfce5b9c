"""What lessons read off a history: smoothed and 20-step quantities, and moved knobs.

Every function takes a history of any length; where there is nothing to read it gives NaN, which meets no criterion.
"""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.history.history import COARSE, History
from moe_sim.history.series import smoothed_imbalance
from moe_sim.metrics import SMOOTHING_HORIZON
from moe_sim.teaching.course.lesson import Criterion

WINDOW = SMOOTHING_HORIZON
"""Steps that a mean is taken over."""
LOOKS = 5
"""Looks at inference that a mean is taken over."""


def mean(history: History, name: str, stop: int | None = None) -> float:
    """Mean of a scalar column over the 20 steps up to step `stop` (None: the newest); NaN if they are not all there."""
    values = _window(history, name, stop)
    return float(values.mean()) if len(values) else np.nan


def per_expert(history: History, name: str, stop: int | None = None) -> np.ndarray:
    """(E,) means of a per-expert column over the 20 steps up to step `stop`; NaN if they are not all there."""
    values = _window(history, name, stop)
    return values.mean(0) if len(values) else np.full(values.shape[1:], np.nan)


def _window(history: History, name: str, stop: int | None) -> np.ndarray:
    end = len(history) if stop is None else stop
    values = history.column(name, max(0, end - WINDOW), end)
    return values if end <= len(history) and len(values) == WINDOW else values[:0]


def smoothed_load(history: History, stop: int | None = None) -> np.ndarray:
    """(E,) the smoothed load after step `stop` (None: the newest)."""
    end = len(history) if stop is None else stop
    values = history.column("smoothed_load", 0, end)
    return values[-1] if 0 < end <= len(history) else np.full(values.shape[1:], np.nan)


def token_share(history: History, stop: int | None = None) -> float:
    """The smoothed share of tokens that the busiest expert has after step `stop`."""
    end = len(history) if stop is None else stop
    return float(smoothed_load(history, stop).max() * history.config_at(max(1, end)).top_k)


def dead(history: History, stop: int | None = None) -> float:
    """The most experts that were dead at once within the 20 steps up to step `stop`."""
    values = _window(history, "dead_experts", stop)
    return float(values.max()) if len(values) else np.nan


def ratio(history: History, stop: int | None = None) -> float:
    """max/min of the smoothed load after step `stop`; ∞ where an expert got nothing."""
    end = len(history) if stop is None else stop
    values = smoothed_imbalance(history, max(0, end - 1), end) if 0 < end <= len(history) else np.array([])
    return float(values[-1]) if len(values) else np.nan


def held_out_load(history: History, stop: int | None = None) -> float:
    """The busiest expert's load in inference, mean of the newest 5 looks up to step `stop` (one every 10 steps)."""
    values = history.column("eval_load", 0, stop)[COARSE - 1 :: COARSE][-LOOKS:]
    return float(values.mean(0).max()) if len(values) == LOOKS else np.nan


def first_move(history: History, name: str, after: int = 0) -> Event | None:
    """The first event at step `after` or later that moves a knob."""
    return next((event for event in history.events if name in event.changes and event.step >= after), None)


def first_even_stretch(history: History, after: int, highest: float = np.inf) -> int | None:
    """The end of the first 20 steps in a row after step `after` in which no expert is dead and none has a larger share
    of the choices than `highest`; None if there are none."""
    fine = (history.column("dead_experts", after) == 0) & (history.column("smoothed_load", after).max(1) <= highest)
    if len(fine) < WINDOW:
        return None
    whole = np.lib.stride_tricks.sliding_window_view(fine, WINDOW).all(1)
    return after + WINDOW + int(whole.argmax()) if whole.any() else None


def steps_since(history: History, *names: str) -> int:
    """Steps since any of some knobs was last moved; all steps if none was."""
    moved = [event.step for event in history.events if event.changes.keys() & set(names)]
    return len(history) - max(moved, default=0)


def enough_steps(history: History, steps: int) -> Criterion:
    """At least so many steps."""
    return Criterion(f"Train for at least {steps} steps.", len(history) >= steps, f"{len(history)} steps")


def percent(share: float) -> str:
    """Whole percent in words; – for no number."""
    return "–" if not np.isfinite(share) else f"{100 * share:.0f}\u00a0%"


def number(value: float, digits: int = 2) -> str:
    """A number in words; ∞ is ∞, and – no number."""
    return "–" if np.isnan(value) else "∞" if np.isinf(value) else f"{value:.{digits}f}"
