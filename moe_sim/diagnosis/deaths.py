"""Deaths and recoveries: when experts died, and whether and when they came back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_sim.history.layer import Layer
from moe_sim.history.markers import markers
from moe_sim.metrics import SMOOTHING_HORIZON

Spell = tuple[int, int]
"""The first and last step of a period in which an expert was dead."""


@dataclass(frozen=True)
class DeathRecord:
    """The deaths of experts in one run. Steps before the smoothing horizon are not judged."""

    steps: int
    spells: tuple[tuple[Spell, ...], ...]
    """The dead periods of each expert."""
    first_death: int | None
    """The first step at which an expert was dead."""
    most_dead: int
    """The largest number of experts dead at once."""
    recovered_at: int | None
    """The step since which no expert has been dead; None if some are dead or none ever was."""
    dead_now: tuple[int, ...]
    """Experts that are dead at the newest step, counted from 0."""
    never_back: tuple[int, ...]
    """Those of them that have not come back since they first died."""


def deaths(history: Layer, dead_share: float) -> DeathRecord:
    """Finds the deaths in the smoothed loads.

    Args:
        history: of any length.
        dead_share: an expert is dead below this multiple of the even share 1/E.
    """
    load = history.column("smoothed_load")
    steps, num_experts = load.shape
    dead = load < dead_share / num_experts
    dead[: SMOOTHING_HORIZON - 1] = False
    spells = tuple(_spells(dead[:, expert]) for expert in range(num_experts))
    count = dead.sum(1)
    with_dead = np.flatnonzero(count) + 1
    recovered = len(with_dead) > 0 and with_dead[-1] < steps
    now = tuple(np.flatnonzero(dead[-1]).tolist()) if steps else ()
    return DeathRecord(
        steps=steps,
        spells=spells,
        first_death=int(with_dead[0]) if len(with_dead) else None,
        most_dead=int(count.max(initial=0)),
        recovered_at=int(with_dead[-1]) + 1 if recovered else None,
        dead_now=now,
        never_back=tuple(expert for expert in now if len(spells[expert]) == 1),
    )


def in_words(history: Layer, record: DeathRecord) -> str:
    """Summarizes the deaths in one to three sentences; empty before the smoothing horizon."""
    if record.first_death is None:
        return "No expert has died." if record.steps >= SMOOTHING_HORIZON else ""
    num_experts = len(record.spells)
    words = f"First dead expert at step {record.first_death}, up to {record.most_dead} of {num_experts} at once."
    if record.recovered_at is None:
        back = sum(bool(spells) for spells in record.spells) - len(record.dead_now)
        came = f" {back} came back;" if back else ""
        never = ""
        if record.never_back:
            all_of_them = record.never_back == record.dead_now
            never = " and never came back" if all_of_them else f"; {len(record.never_back)} of them never came back"
        return f"{words}{came} {len(record.dead_now)} {'is' if len(record.dead_now) == 1 else 'are'} dead now{never}."
    words += f" All back at step {record.recovered_at}"
    changes = [marker for marker in markers(history) if record.first_death <= marker.step < record.recovered_at]
    if changes:
        return f"{words}, {_steps(record.recovered_at - changes[-1].step)} after {changes[-1].label}."
    return f"{words}, {_steps(record.recovered_at - record.first_death)} after the first one died."


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


def _spells(dead: np.ndarray) -> tuple[Spell, ...]:
    """The runs of True in (n,) bool, as first and last steps."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], dead, [False]]).astype(np.int8)))
    return tuple((int(first) + 1, int(last)) for first, last in edges.reshape(-1, 2))
