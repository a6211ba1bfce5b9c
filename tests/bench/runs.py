"""The runs of a table, trained together."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from moe_sim import RunConfig, Trainer, advance


def trained(
    seeds: Iterable[int], steps: int, raised_at: int | None = None, alpha: float = 0.1, **knobs: object
) -> list[Trainer]:
    """A run for each seed; with `raised_at`, α is raised after that many steps."""
    torch.set_num_threads(1)
    trainers = [Trainer(RunConfig(seed=seed, **knobs)) for seed in seeds]  # type: ignore[arg-type]
    if raised_at is not None:
        advance(trainers, raised_at)
        for trainer in trainers:
            trainer.update(aux_loss_coef=alpha)
    advance(trainers, steps - (raised_at or 0))
    return trainers
