"""The short runs that questions are drawn from, cached."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from moe_sim.config.run_config import RunConfig
from moe_sim.diagnosis.remedies import RESCUE_ALPHA
from moe_sim.diagnosis.verdict import diagnose
from moe_sim.history.history import History
from moe_sim.trainer.trainer import Trainer

STEPS = 120
"""Enough for a router to collapse or settle; about 0.3 s on an idle core."""
RESCUE_STEPS = 220
RUN_SEEDS = 40
"""Seeds per configuration. A small number lets a class share cached runs."""
AVERAGED = 20
"""Steps at the end of a curve over which it is averaged."""

LOPSIDED: dict[str, Any] = {}
WEAK: dict[str, Any] = {"aux_loss_coef": 0.003}
HEALTHY: dict[str, Any] = {"aux_loss_coef": 0.03}
EXCESSIVE: dict[str, Any] = {"aux_loss_coef": 10.0}
TOP_2_OF_4: dict[str, Any] = {"num_experts": 4, "top_k": 2, "aux_loss_coef": 0.1}
SINKHORN: dict[str, Any] = {"balancing": "sinkhorn"}


@dataclass(frozen=True)
class Run:
    """The numbers of a run that questions need. Nothing in it grows with the network."""

    config: RunConfig
    """At the end of the run."""
    state: str
    """`diagnosis.diagnose` at the end."""
    load: tuple[float, ...]
    """Smoothed, at the end: each expert's share of the choices."""
    processed: tuple[float, ...]
    """Mean over the last `AVERAGED` steps."""
    preferred: tuple[float, ...]
    """Load from the router's own top-k, mean over the last `AVERAGED` steps."""
    inference_load: tuple[float, ...]
    """Held-out tokens, each routed by itself, after the last step."""
    busiest: tuple[float, ...]
    """The largest load of each step."""
    task_loss: tuple[float, ...]
    balance_loss: tuple[float, ...]
    router_entropy: float
    specialization: float


def run(seed: int, changes: dict[str, Any], steps: int = STEPS) -> Run:
    """Returns a run of the Topics task with some knobs changed. The first call trains it."""
    return _run(seed % RUN_SEEDS, tuple(sorted(changes.items())), steps, None)


def rescued_run(seed: int, at: int) -> Run:
    """Returns a run without balancing for `at` steps, then with α = `RESCUE_ALPHA`."""
    return _run(seed % RUN_SEEDS, (), RESCUE_STEPS, at)


@lru_cache(maxsize=512)
def _run(seed: int, changes: tuple[tuple[str, Any], ...], steps: int, rescued_at: int | None) -> Run:
    trainer = Trainer(RunConfig(seed=seed, **dict(changes)))
    if rescued_at is not None:
        trainer.run(rescued_at)
        trainer.update(aux_loss_coef=RESCUE_ALPHA)
    history = trainer.run(steps - trainer.steps_done)
    return Run(
        config=trainer.config,
        state=diagnose(history, trainer.config).state,
        load=_numbers(history.layer().last("smoothed_load")),
        processed=_ending(history, "processed"),
        preferred=_ending(history, "preferred_load"),
        inference_load=_numbers(history.layer().last("eval_load")),
        busiest=_numbers(history.layer().column("load").max(1)),
        task_loss=_numbers(history.column("task_loss")),
        balance_loss=_numbers(history.column("balance_loss")),
        router_entropy=float(history.column("router_entropy")[-AVERAGED:].mean()),
        specialization=float(history.last("specialization")),
    )


def _ending(history: History, name: str) -> tuple[float, ...]:
    return _numbers(history.layer().column(name)[-AVERAGED:].mean(0))


def _numbers(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
