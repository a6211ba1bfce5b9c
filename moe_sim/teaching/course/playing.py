"""Runs that nobody watches: scripted actions, and the reference run of a comparison."""

from __future__ import annotations

from functools import lru_cache

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.teaching.course.measures import mean
from moe_sim.trainer.trainer import Trainer


def play(config: RunConfig, plan: tuple[Event, ...], steps: int) -> Trainer:
    """Train with knobs that move at their steps, as a student would move them.

    Args:
        config: the configuration at step 0.
        plan: moves in order of steps.
        steps: how many to do; fewer if the run diverges.
    """
    trainer = Trainer(config)
    for event in plan:
        if event.step > steps:
            break
        trainer.run(event.step - trainer.steps_done)
        trainer.update(**event.changes)
    trainer.run(steps - trainer.steps_done)
    return trainer


@lru_cache(maxsize=64)
def reference(seed: int, steps: int = 600, aux_loss_coef: float = 0.03, raised_at: int = 0) -> float:
    """Task loss, mean of the last 20 steps, of a second run that the student does not see: the defaults of the topics
    task, α = 0 up to a step and `aux_loss_coef` from there on. It is trained when first asked for, which takes about
    2 ms a step, and its loss is kept.
    """
    plan = (Event(raised_at, {"aux_loss_coef": aux_loss_coef}),)
    return mean(play(RunConfig(seed=seed), plan, steps).history, "task_loss")
