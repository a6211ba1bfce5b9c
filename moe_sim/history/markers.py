"""Changed knobs as markers on a time axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moe_sim.config.knobs import short_name
from moe_sim.config.words import value_in_words
from moe_sim.history.history import History
from moe_sim.history.layer import Layer

SAME_CHANGE = 30
"""Steps within which changes of the same knob count as one: a slider being dragged."""


@dataclass(frozen=True)
class Change:
    """A knob that was changed, possibly in several quick moves."""

    knob: str
    step: int
    """Of the first move, when the change began to act."""
    last_step: int
    before: Any
    after: Any


@dataclass(frozen=True)
class Marker:
    """A changed knob on a time axis."""

    step: int
    label: str


def changes_of(history: History | Layer) -> list[Change]:
    """Every change by its first step. Moves of one knob in quick succession are one change, or none if they end at the
    old value."""
    changes: list[Change] = []
    values = history.initial_config.model_dump()
    for event in history.events:
        for name, value in event.changes.items():
            change = Change(name, event.step, event.step, values[name], value)
            last = next((one for one in reversed(changes) if one.knob == name), None)
            if last is not None and event.step - last.last_step <= SAME_CHANGE:
                changes.remove(last)
                change = Change(name, last.step, event.step, last.before, value)
            changes.append(change)
            values[name] = value
    return sorted((one for one in changes if one.before != one.after), key=lambda one: one.step)


def markers(history: History | Layer) -> list[Marker]:
    """Every changed knob with its old and new value, where its first move was."""
    labels: dict[int, list[str]] = {}
    for change in changes_of(history):
        values_in_words = (value_in_words(value) for value in (change.before, change.after))
        labels.setdefault(change.step, []).append(f"{short_name(change.knob)} {' → '.join(values_in_words)}")
    return [Marker(step, ", ".join(labels[step])) for step in sorted(labels)]
