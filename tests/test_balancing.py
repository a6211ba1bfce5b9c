"""What α weighs: every method of the configuration is there, is right, and reaches the router."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moe_sim import KNOBS, RunConfig, Trainer
from moe_sim.balancing import LOSSES
from moe_sim.router import Routing, route
from tests import oracles


def lopsided_routing(top_k: int = 1) -> Routing:
    logits = np.random.default_rng(0).normal(size=(40, 8))
    logits[:, 0] += 1.5
    return route(torch.tensor(logits, requires_grad=True), RunConfig(top_k=top_k), None)


def test_every_method_of_the_configuration_has_a_loss() -> None:
    assert set(LOSSES) == set(KNOBS["balancing"].choices)


@pytest.mark.parametrize("top_k", [1, 2])
def test_load_balancing_is_the_loss_of_switch_per_choice(top_k: int) -> None:
    routing = lopsided_routing(top_k)
    expected = oracles.load_balancing_loss(routing.probs.detach().numpy(), routing.expert_index.numpy(), "per_choice")
    assert LOSSES["load_balancing"](routing).item() == pytest.approx(expected)


def test_importance_is_the_squared_variation_of_the_importance() -> None:
    routing = lopsided_routing()
    expected = oracles.squared_variation(routing.probs.detach().numpy().sum(0))
    assert LOSSES["importance"](routing).item() == pytest.approx(expected)


@pytest.mark.parametrize("method", [name for name in LOSSES if name != "none"])
def test_a_step_down_the_gradient_of_a_loss_makes_the_busiest_expert_less_likely(method: str) -> None:
    routing = lopsided_routing()
    (gradient,) = torch.autograd.grad(LOSSES[method](routing), routing.logits)
    after = (routing.logits - gradient).softmax(1).mean(0)
    assert after[0] < routing.probs.mean(0)[0]


def test_no_method_is_zero_and_pushes_nothing() -> None:
    loss = LOSSES["none"](lopsided_routing())
    assert loss.item() == 0
    assert not loss.requires_grad


def test_alpha_does_nothing_where_there_is_no_loss_to_weigh() -> None:
    runs = [Trainer(RunConfig(balancing="none", aux_loss_coef=alpha)).run(10) for alpha in (0.0, 10.0)]
    np.testing.assert_array_equal(runs[0].column("task_loss"), runs[1].column("task_loss"))
    assert not runs[1].column("auxiliary_loss").any()


@pytest.mark.parametrize("method", LOSSES)
def test_without_alpha_every_method_trains_alike(method: str) -> None:
    runs = [Trainer(RunConfig(balancing=name)).run(10) for name in (method, "load_balancing")]
    np.testing.assert_array_equal(runs[0].column("task_loss"), runs[1].column("task_loss"))


@pytest.mark.parametrize("method", [name for name in LOSSES if name != "none"])
def test_every_loss_evens_out_the_load(method: str) -> None:
    # Seeds 0 to 2 after 150 steps: α = 0 has a largest smoothed load of 0.97 to 1.00, α = 0.1 of 0.14
    # at most with the load-balancing loss and of 0.26 at most with the importance loss.
    for seed in range(3):
        largest = [
            Trainer(RunConfig(seed=seed, balancing=method, aux_loss_coef=alpha)).run(150).last("smoothed_load").max()
            for alpha in (0.0, 0.1)
        ]
        assert largest[0] > 0.6
        assert largest[1] < 0.4
