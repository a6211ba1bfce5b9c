"""A cache of long runs for several tests. Each is trained once per process; a run that begins like another continues
from a copy of it, which gives the same numbers to the last digit (see test_runs.py)."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from typing import Any

from moe_sim import Event, RunConfig, Trainer

Change = tuple[int, tuple[tuple[str, Any], ...]]
"""A step and the changes planned for it, hashable."""
COPIES = (*range(50, 400, 50), *range(400, 2_000, 200))
"""Steps at which copies are kept. A copy takes as long as a step and, after 400 steps, half a megabyte."""


def run_of(config: RunConfig, steps: int, plan: Iterable[Event] = ()) -> Trainer:
    """A trainer after `steps` steps, as `course.play` would leave it; fewer if it diverges.

    Other tests get the same object: train or change only a copy.

    Args:
        config: at step 0.
        steps: number of steps.
        plan: changes in order of steps; those after the end are ignored.
    """
    return _run(config, steps, tuple((one.step, tuple(one.changes.items())) for one in plan if one.step <= steps))


@cache
def _run(config: RunConfig, steps: int, changes: tuple[Change, ...]) -> Trainer:
    if changes and changes[-1][0] == steps:
        trainer = deepcopy(_run(config, steps, changes[:-1]))
        trainer.update(**dict(changes[-1][1]))
        return trainer
    begin = max((step for step in (*COPIES, *(step for step, _ in changes)) if step < steps), default=0)
    trainer = deepcopy(_run(config, begin, changes)) if begin or changes else Trainer(config)
    trainer.run(steps - begin)
    return trainer
