"""Changed knobs as markers on a time axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moe_sim.config.knobs import short_name
from moe_sim.config.words import value_in_words
from moe_sim.history.history import History

SAME_CHANGE = 30
"""Steps within which changes of the same knob count as one: a slider being dragged."""


@dataclass(frozen=True)
class Marker:
    """A changed knob on a time axis."""

    step: int
    label: str


def markers(history: History) -> list[Marker]:
    """Every changed knob with its old and new value. Changes of one knob in quick succession share a marker at the last
    of them, or get none if they end at the old value."""
    changes: list[tuple[str, int, Any, Any]] = []
    values = history.initial_config.model_dump()
    for event in history.events:
        for name, value in event.changes.items():
            before = values[name]
            last = next((i for i in reversed(range(len(changes))) if changes[i][0] == name), None)
            if last is not None and event.step - changes[last][1] <= SAME_CHANGE:
                before = changes.pop(last)[2]
            changes.append((name, event.step, before, value))
            values[name] = value
    labels: dict[int, list[str]] = {}
    for name, step, before, after in changes:
        if before != after:
            values_in_words = (value_in_words(value) for value in (before, after))
            words = f"{short_name(name)} {' → '.join(values_in_words)}"
            labels.setdefault(step, []).append(words)
    return [Marker(step, ", ".join(labels[step])) for step in sorted(labels)]
