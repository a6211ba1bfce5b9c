"""Runs in the foreground: scripted runs, and the reference run that a student's is compared with."""

from __future__ import annotations

from functools import lru_cache

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.teaching.course.measures import mean
from moe_sim.trainer.trainer import Trainer


def play(config: RunConfig, plan: tuple[Event, ...], steps: int) -> Trainer:
    """Train a run with planned changes, applied as a student would make them.

    Args:
        config: the configuration at step 0.
        plan: changes in order of steps.
        steps: how many to train; fewer are done if the run diverges.
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
    """The task loss of a second run that the student does not see, mean of its last 20 steps. The run has the defaults
    of the Topics task, with α = 0 until step `raised_at` and `aux_loss_coef` from there on. The first call trains it,
    about 2 ms per step; the loss is cached.
    """
    plan = (Event(raised_at, {"aux_loss_coef": aux_loss_coef}),)
    return mean(play(RunConfig(seed=seed), plan, steps).history, "task_loss")
