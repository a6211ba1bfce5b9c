"""Comparisons that train without a scheduler."""

from __future__ import annotations

from typing import Any

from moe_sim import Event
from moe_sim.config.run_plan import RunPlan
from moe_sim.live.comparison import Comparison
from tests.support.inspecting import small_config


def side_by_side(*variants: dict[int, dict[str, Any]], **knobs: Any) -> Comparison:
    """A small baseline run and variants of it, each given as its changes by step."""
    base = RunPlan(small_config(**knobs))
    others = (base.changed([Event(step, changes) for step, changes in one.items()]) for one in variants)
    return Comparison((base, *others))


def advance(comparison: Comparison, steps: int) -> Comparison:
    """Train `steps` steps as the scheduler would, one per turn, then pause."""
    comparison.touch()
    rate, comparison.rate = comparison.rate, 15.0
    comparison.train()
    stop = comparison.steps_done + steps
    while comparison.steps_done < stop and comparison.wants_step:
        comparison.advance()
        comparison.touch()  # a slow machine must not time out the viewer
    comparison.pause()
    comparison.rate = rate
    return comparison


def steps_of(comparison: Comparison) -> list[int]:
    """The step of each run."""
    return [member.steps_done for member in comparison.members]
