"""Runs in the foreground: scripted runs, and the reference run that a student's is compared with."""

from __future__ import annotations

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.teaching.course.lesson import Reference
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


def reference_loss(run: Reference) -> float:
    """Trains a reference run, about 2 ms per step.

    Returns:
        Its task loss, mean of the last 20 steps.
    """
    plan = (Event(run.raised_at, {"aux_loss_coef": run.aux_loss_coef}),)
    return mean(play(RunConfig(seed=run.seed), plan, run.steps).history, "task_loss")
