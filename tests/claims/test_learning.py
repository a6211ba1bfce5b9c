"""What a student should see: collapse without a load-balancing loss, rescue with it, too much of it, too late a rescue,
and a run that diverges without breaking anything.

Each claim is tested on several fixed seeds; the margins beside them were measured on one machine.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moe_sim import Event, History, RunConfig, Trainer
from moe_sim.history.columns import COARSE, PER_CHOICE, PER_EXPERT, SCALARS
from tests.support.runs import runs_of

pytestmark = pytest.mark.xdist_group("long runs")

SEEDS = range(4)
LAST = slice(-50, None)


def trained(seed: int, aux_loss_coef: float, steps: int) -> History:
    """A run with a constant α, one of `SEEDS`."""
    return all_trained(SEEDS, aux_loss_coef, steps)[seed]


def all_trained(seeds: range, aux_loss_coef: float, steps: int) -> list[History]:
    """Runs with a constant α."""
    configs = [RunConfig(seed=seed, aux_loss_coef=aux_loss_coef) for seed in seeds]
    return [run.history for run in runs_of(configs, steps)]


def final_task_loss(aux_loss_coef: float) -> np.ndarray:
    """Mean of the last 50 of 600 steps, one number per seed."""
    return np.array([trained(seed, aux_loss_coef, 600).column("task_loss")[LAST].mean() for seed in SEEDS])


def test_without_a_load_balancing_loss_routing_collapses() -> None:
    # Measured: 10 of 10 seeds, the largest smoothed load between 0.993 and 1.000, 7 experts dead.
    collapsed = 0
    for history in all_trained(range(10), 0.0, 600):
        collapsed += history.layer().last("smoothed_load").max() > 0.5 and history.last("dead_experts") >= 4
    assert collapsed >= 9


@pytest.mark.parametrize("alpha", [0.03, 0.1])
def test_a_moderate_alpha_keeps_every_expert_in_use(alpha: float) -> None:
    # Measured: the largest smoothed load is 0.24 at α = 0.03 and 0.21 at α = 0.1; no expert dead.
    for seed in SEEDS:
        history = trained(seed, alpha, 600)
        assert history.layer().last("smoothed_load").max() <= 0.40
        assert history.last("dead_experts") <= 1


@pytest.mark.parametrize("alpha", [0.03, 0.1])
@pytest.mark.parametrize("other", [0.0, 10.0])
def test_a_moderate_alpha_learns_more_than_zero_or_too_much(alpha: float, other: float) -> None:
    # Measured means of four seeds: α = 0: 2.469, 0.03: 2.247, 0.1: 2.308, 10: 2.482. The smallest gap of a
    # single seed is 0.119, at 0.1 compared with 0 and 10.
    gain = final_task_loss(other) - final_task_loss(alpha)
    assert gain.mean() > 0.08
    assert (gain > 0).all()


def test_too_much_alpha_is_even_but_undecided_and_unspecialized() -> None:
    # Measured at α = 10 / 0.03: largest smoothed load at most 0.128 / 0.236, router entropy from 0.989 / up to 0.793,
    # specialization up to 0.368 / from 0.607.
    for seed in SEEDS:
        too_much, moderate = trained(seed, 10.0, 600), trained(seed, 0.03, 600)
        entropy, specialization = (
            [history.column(name)[LAST].mean() for history in (too_much, moderate)]
            for name in ("router_entropy", "specialization")
        )
        assert too_much.layer().last("smoothed_load").max() < 0.16
        assert entropy[0] > entropy[1] + 0.1
        assert specialization[0] < specialization[1] - 0.1


def test_a_late_rescue_ends_between_an_early_one_and_none() -> None:
    # Measured at step 1000, α = 0.1 from the start / from step 400 / never: 1.99 / 2.37 / 2.41, 1.93 / 2.10 / 2.36,
    # 1.95 / 2.19 / 2.38, 2.09 / 2.36 / 2.41; means 1.99 / 2.26 / 2.39.
    late = runs_of([RunConfig(seed=seed) for seed in SEEDS], 1000, [Event(400, {"aux_loss_coef": 0.1})])
    losses = np.zeros((len(SEEDS), 3))
    for seed in SEEDS:
        runs = (trained(seed, 0.1, 1000), late[seed].history, trained(seed, 0.0, 1000))
        losses[seed] = [run.column("task_loss")[LAST].mean() for run in runs]
    early, late_rescue, never = losses.mean(0)
    assert early < late_rescue - 0.1
    assert late_rescue < never - 0.05
    assert (losses[:, 0] < losses[:, 1]).all()


def assert_everything_is_finite(trainer: Trainer) -> None:
    """Checks every number of the history except the ratio, which may be ∞, and every weight. Evaluations are NaN except
    at every tenth step."""
    for name in SCALARS + PER_EXPERT + PER_CHOICE:
        values = trainer.history.column(name)
        if name in ("eval_limited_loss", "eval_sorted_loss") and trainer.config.capacity_factor is None:
            continue
        if name.startswith("eval_"):
            values = values[COARSE - 1 :: COARSE]
        assert not np.isnan(values).any(), name
        assert name == "imbalance_ratio" or np.isfinite(values).all(), name
    assert all(torch.isfinite(weight).all() for weight in trainer.network.state_dict().values())


@pytest.mark.parametrize("knobs", [{}, {"aux_loss_coef": 10.0, "top_k": 2, "capacity_factor": 1.0}, {"task": "text"}])
def test_an_absurd_learning_rate_ends_the_run_as_diverged_and_keeps_the_finite_steps(knobs: dict[str, object]) -> None:
    trainer = Trainer(RunConfig(learning_rate=1000.0, **knobs))
    history = trainer.run(50)
    assert trainer.diverged
    assert 1 <= len(history) == trainer.steps_done < 50
    assert_everything_is_finite(trainer)


def test_a_learning_rate_that_becomes_absurd_keeps_the_earlier_steps() -> None:
    trainer = Trainer(RunConfig())
    before = trainer.run(20).column("task_loss").copy()
    trainer.update(learning_rate=1000.0)
    trainer.run(50)
    assert trainer.diverged
    np.testing.assert_array_equal(trainer.history.column("task_loss")[:20], before)
    assert_everything_is_finite(trainer)


@pytest.mark.parametrize("knobs", [{}, {"top_k": 2, "capacity_factor": 1.0, "drop_order": "probability"}])
@pytest.mark.parametrize(
    "name", ["chain.0.moe.router.weight", "chain.0.moe.experts.weight_in", "head.weight", "head.bias"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_ends_the_run_and_raises_nothing(
    name: str, value: float, knobs: dict[str, object]
) -> None:
    trainer = Trainer(RunConfig(**knobs))
    trainer.run(3)
    with torch.no_grad():
        trainer.network.get_parameter(name).fill_(value)
    assert trainer.step() is None
    assert trainer.diverged
    assert len(trainer.history) == 3
    assert trainer.probe().expert.shape == (1, 400)


def test_a_gradient_that_is_not_finite_is_not_applied() -> None:
    trainer = Trainer(RunConfig())
    trainer.run(3)
    before = [value.clone() for value in trainer.network.state_dict().values()]
    trainer.network.get_parameter("head.bias").register_hook(lambda gradient: gradient * float("inf"))
    assert trainer.step() is None
    assert trainer.diverged
    assert all(torch.equal(*pair) for pair in zip(before, trainer.network.state_dict().values(), strict=True))


def test_a_diverged_run_does_not_change() -> None:
    trainer = Trainer(RunConfig(learning_rate=1000.0))
    steps = len(trainer.run(50))
    weights = [value.clone() for value in trainer.network.state_dict().values()]
    trainer.update(learning_rate=0.003)
    assert trainer.step() is None
    assert len(trainer.run(10)) == steps
    assert all(torch.equal(*pair) for pair in zip(weights, trainer.network.state_dict().values(), strict=True))
    assert len(trainer.history.to_frame()) == steps
