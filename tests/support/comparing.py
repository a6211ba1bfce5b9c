"""Runs side by side that are trained without a scheduler."""

from __future__ import annotations

from typing import Any

from moe_sim import Event
from moe_sim.config.run_plan import RunPlan
from moe_sim.live.comparison import Comparison
from tests.support.inspecting import small_config


def side_by_side(*departures: dict[int, dict[str, Any]], **knobs: Any) -> Comparison:
    """A small run, and others that depart from it: for each the changes by their steps."""
    base = RunPlan(small_config(**knobs))
    others = (base.changed([Event(step, changes) for step, changes in one.items()]) for one in departures)
    return Comparison((base, *others))


def advance(comparison: Comparison, steps: int) -> Comparison:
    """So many steps, as the scheduler would have them done, one a turn; paused then."""
    comparison.touch()
    rate, comparison.rate = comparison.rate, 15.0
    comparison.train()
    stop = comparison.steps_done + steps
    while comparison.steps_done < stop and comparison.wants_step:
        comparison.advance()
        comparison.touch()  # slow machines must not lose their viewer
    comparison.pause()
    comparison.rate = rate
    return comparison


def steps_of(comparison: Comparison) -> list[int]:
    """How far each run is."""
    return [member.steps_done for member in comparison.members]
