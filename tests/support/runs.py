"""Long runs that several tests look at. Each is trained once in a process, and one that begins as another did goes on
from a copy of it, which gives the same numbers to the last digit (test_runs.py holds this)."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from typing import Any

from moe_sim import Event, RunConfig, Trainer

Move = tuple[int, tuple[tuple[str, Any], ...]]
"""A step and what is moved then, as something that can be a key."""
COPIES = (*range(50, 400, 50), *range(400, 2_000, 200))
"""Steps at which copies are kept. A copy costs as much as a step and, after 400 steps, half a megabyte."""


def run_of(config: RunConfig, steps: int, plan: Iterable[Event] = ()) -> Trainer:
    """A trainer after so many steps, as `course.play` would leave it; fewer if it diverges.

    Others are given the same one: look at it, and train and move only a copy.

    Args:
        config: at step 0.
        steps: how many to do.
        plan: moves in order of steps; those after the end are left out.
    """
    return _run(config, steps, tuple((one.step, tuple(one.changes.items())) for one in plan if one.step <= steps))


@cache
def _run(config: RunConfig, steps: int, moves: tuple[Move, ...]) -> Trainer:
    if moves and moves[-1][0] == steps:
        trainer = deepcopy(_run(config, steps, moves[:-1]))
        trainer.update(**dict(moves[-1][1]))
        return trainer
    begin = max((step for step in (*COPIES, *(step for step, _ in moves)) if step < steps), default=0)
    trainer = deepcopy(_run(config, begin, moves)) if begin or moves else Trainer(config)
    trainer.run(steps - begin)
    return trainer
