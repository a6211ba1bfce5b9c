"""A cache of long runs for several tests. Each is trained once per process; a run that begins like another continues
from a copy of it, which gives the same numbers to the last digit (see test_runs.py). Seeds that tests ask for one after
the other are trained together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

from moe_sim import Event, RunConfig, Trainer, advance

Change = tuple[int, tuple[tuple[str, Any], ...]]
"""A step and the changes planned for it, hashable."""
COPIES = (*range(50, 400, 50), *range(400, 2_000, 200))
"""Steps at which copies are kept. A copy takes as long as a step and, after 400 steps, half a megabyte."""
FAMILIES = ((0, 1, 2), (7601, 7602, 7603))
"""Seeds of which a test that wants one usually wants all."""

_runs: dict[tuple[RunConfig, int, tuple[Change, ...]], Trainer] = {}


def run_of(config: RunConfig, steps: int, plan: Iterable[Event] = ()) -> Trainer:
    """A trainer after `steps` steps, as `course.play` would leave it; fewer if it diverges.

    Other tests get the same object: train or change only a copy.

    Args:
        config: at step 0.
        steps: number of steps.
        plan: changes in order of steps; those after the end are ignored.
    """
    family = next((seeds for seeds in FAMILIES if config.seed in seeds), (config.seed,))
    runs = runs_of([config.replace(seed=seed) for seed in family], steps, plan)
    return runs[family.index(config.seed)]


def runs_of(configs: Sequence[RunConfig], steps: int, plan: Iterable[Event] = ()) -> list[Trainer]:
    """Several runs as `run_of` gives them, trained together."""
    return _runs_of(configs, steps, tuple((one.step, tuple(one.changes.items())) for one in plan if one.step <= steps))


def _runs_of(configs: Sequence[RunConfig], steps: int, changes: tuple[Change, ...]) -> list[Trainer]:
    missing = [config for config in configs if (config, steps, changes) not in _runs]
    if missing:
        for config, trainer in zip(missing, _train(missing, steps, changes), strict=True):
            _runs[config, steps, changes] = trainer
    return [_runs[config, steps, changes] for config in configs]


def _train(configs: Sequence[RunConfig], steps: int, changes: tuple[Change, ...]) -> list[Trainer]:
    if changes and changes[-1][0] == steps:
        trainers = deepcopy(_runs_of(configs, steps, changes[:-1]))
        for trainer in trainers:
            trainer.update(**dict(changes[-1][1]))
        return trainers
    begin = max((step for step in (*COPIES, *(step for step, _ in changes)) if step < steps), default=0)
    begins_new = not (begin or changes)
    trainers = [Trainer(config) for config in configs] if begins_new else deepcopy(_runs_of(configs, begin, changes))
    advance(trainers, steps - begin)
    return trainers
