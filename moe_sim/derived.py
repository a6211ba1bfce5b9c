"""What screens show of a history beside its columns: averages, the smoothed ratio, moved knobs in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_sim.codec import format_value
from moe_sim.history import History
from moe_sim.knobs import KNOBS
from moe_sim.metrics import SMOOTHING_HORIZON, imbalance_ratio, one_token

COARSE = 10
"""Steps in a row of the coarse table."""
ONE_MOVE = 30
"""Steps within which several moves of the same knob are one: a slider on its way."""
SHORT_NAMES = {
    "aux_loss_coef": "α", "top_k": "k", "capacity_factor": "capacity", "z_loss_coef": "z-loss",
    "learning_rate": "learning rate", "noise_std": "noise",
}  # fmt: skip


@dataclass(frozen=True)
class Marker:
    """A moved knob on a time axis."""

    step: int
    label: str


def smoothed_imbalance(history: History, start: int = 0, stop: int | None = None) -> np.ndarray:
    """(n,) max/min of the smoothed load; ∞ where an expert's share is below half of what one token adds."""
    config = history.initial_config
    return imbalance_ratio(
        history.column("smoothed_load", start, stop), nothing=one_token(config.batch_tokens, config.top_k) / 2
    )


def coarse_mean(history: History, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """(n, E) means of a per-expert column over each complete block of 10 steps between two steps."""
    length = len(history) if stop is None else stop
    values = history.column(name, start // COARSE * COARSE, length // COARSE * COARSE)
    return values.reshape(-1, COARSE, values.shape[1]).mean(1)


def recent_mean(history: History, name: str) -> np.ndarray:
    """Mean of a column over the last 20 steps; zeros before the first."""
    values = history.column(name)[-SMOOTHING_HORIZON:]
    return values.mean(0) if len(values) else np.zeros(values.shape[1:])


def markers(history: History) -> list[Marker]:
    """Every moved knob with where it came from and where it went. Moves of one knob in quick succession are one
    marker, at the last of them; one that ends where it began is none."""
    moves: list[tuple[str, int, Any, Any]] = []
    values = history.initial_config.model_dump()
    for event in history.events:
        for name, value in event.changes.items():
            before = values[name]
            last = next((i for i in reversed(range(len(moves))) if moves[i][0] == name), None)
            if last is not None and event.step - moves[last][1] <= ONE_MOVE:
                before = moves.pop(last)[2]
            moves.append((name, event.step, before, value))
            values[name] = value
    labels: dict[int, list[str]] = {}
    for name, step, before, after in moves:
        if before != after:
            words = f"{SHORT_NAMES.get(name, KNOBS[name].label)} {format_value(before)} → {format_value(after)}"
            labels.setdefault(step, []).append(words)
    return [Marker(step, ", ".join(labels[step])) for step in sorted(labels)]
