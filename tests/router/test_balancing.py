"""Every configured mechanism exists, does what it says, and affects only what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moe_sim import KNOBS, RunConfig, Trainer
from moe_sim.router.balancing import METHODS, PARTICULAR_KNOBS, Balancing
from moe_sim.router.routing import Routing, route
from tests.support import oracles
from tests.support.runs import run_of

pytestmark = pytest.mark.xdist_group("long runs")
LOSSES = ("load_balancing", "importance", "load", "importance_and_load")
SELECTIONS = ("bias", "expert_choice", "sinkhorn", "hash")
CONVENTIONS = ("per_choice", "first_choice", "huggingface")


def lopsided_routing(name: str = "none", noise_std: float | Tensor = 0.0, seed: int = 0, **knobs: object) -> Routing:
    """Forty tokens and eight experts, of which most tokens prefer the first."""
    logits = np.random.default_rng(seed).normal(size=(40, 8))
    logits[:, 0] += 1.5
    noise = torch.Generator().manual_seed(seed)
    return route(
        torch.tensor(logits, requires_grad=True), RunConfig(**knobs), METHODS[name](8).select,
        noise=noise, noise_std=noise_std,
    )  # fmt: skip


def loss(name: str, routing: Routing, **knobs: object) -> Tensor:
    value = METHODS[name](8).loss(routing, RunConfig(**knobs))
    assert value is not None
    return value


def test_the_mechanisms_are_those_of_the_configuration() -> None:
    assert tuple(METHODS) == KNOBS["balancing"].choices
    assert {*LOSSES, *SELECTIONS, "none"} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_mechanism_explains_itself_and_names_existing_knobs(name: str) -> None:
    method = METHODS[name]
    assert method.label
    assert method.explanation.endswith(".")
    assert set(method.knobs) <= set(KNOBS)
    assert set(method.knobs) <= PARTICULAR_KNOBS
    assert all(KNOBS[knob].live for knob in method.knobs)


def test_labels_and_explanations_of_mechanisms_are_unique() -> None:
    assert len({method.label for method in METHODS.values()}) == len(METHODS)
    assert len({method.explanation for method in METHODS.values()}) == len(METHODS)


def test_alpha_belongs_to_the_losses_and_the_bias_rate_to_the_bias() -> None:
    assert {name for name, method in METHODS.items() if "aux_loss_coef" in method.knobs} == set(LOSSES)
    for knob in ("bias_rate", "bias_update"):
        assert {name for name, method in METHODS.items() if knob in method.knobs} == {"bias"}
    assert {name for name, method in METHODS.items() if "balance_scope" in method.knobs} == {*LOSSES, "bias"}
    assert {name for name, method in METHODS.items() if "convention" in method.knobs} == {"load_balancing"}


@pytest.mark.parametrize("name", METHODS)
def test_a_mechanism_either_has_a_loss_or_selects_or_is_none(name: str) -> None:
    method = METHODS[name]
    value = method(8).loss(lopsided_routing(name, noise_std=0.5), RunConfig())
    assert (value is not None) == (name in LOSSES)
    assert method.selects() == (name in SELECTIONS)
    assert method.looks_at_batch == (name in ("expert_choice", "sinkhorn"))


# Losses


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("top_k", [1, 2])
def test_load_balancing_is_the_switch_loss_in_the_configured_convention(top_k: int, convention: str) -> None:
    routing = lopsided_routing(top_k=top_k)
    probs = routing.probs.detach().numpy()
    expected = oracles.load_balancing_loss(probs, routing.expert_index.numpy(), convention)
    assert loss("load_balancing", routing, convention=convention).item() == pytest.approx(expected)


def test_the_importance_loss_is_the_squared_variation_of_the_importance() -> None:
    routing = lopsided_routing()
    expected = oracles.squared_variation(routing.probs.detach().numpy().sum(0))
    assert loss("importance", routing).item() == pytest.approx(expected)


@given(
    seed=st.integers(0, 1000), top_k=st.integers(1, 7), noise_std=st.floats(0.05, 3), learned=st.booleans(),
    name=st.sampled_from(["load", "importance_and_load"]),
)  # fmt: skip
def test_the_losses_with_noise_equal_their_definitions(
    seed: int, top_k: int, noise_std: float, learned: bool, name: str
) -> None:
    std: float | Tensor = noise_std
    if learned:
        std = noise_std * torch.from_numpy(np.random.default_rng(seed).uniform(0.5, 2, size=(40, 8)))
    routing = lopsided_routing(noise_std=std, seed=seed, top_k=top_k)
    definition = {"load": oracles.load_loss, "importance_and_load": oracles.importance_and_load_loss}[name]
    logits, noisy = routing.logits.detach().numpy(), routing.noisy_logits.detach().numpy()
    expected = definition(logits, noisy, std.numpy() if isinstance(std, Tensor) else std, top_k)
    assert loss(name, routing, top_k=top_k).item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_without_noise_there_is_no_load_loss_and_half_of_the_importance_loss_remains() -> None:
    routing = lopsided_routing()
    assert METHODS["load"](8).loss(routing, RunConfig()) is None
    half = oracles.squared_variation(routing.probs.detach().numpy().sum(0)) / 2
    assert loss("importance_and_load", routing).item() == pytest.approx(half)


@pytest.mark.parametrize("name", LOSSES)
def test_a_gradient_step_on_a_loss_makes_the_busiest_expert_less_likely(name: str) -> None:
    routing = lopsided_routing(noise_std=0.5)
    (gradient,) = torch.autograd.grad(loss(name, routing), routing.logits)
    after = (routing.logits - gradient).softmax(1).mean(0)
    assert after[0] < routing.probs.mean(0)[0]


@pytest.mark.parametrize("name", ["none", *SELECTIONS])
def test_alpha_does_nothing_without_a_loss_to_weigh(name: str) -> None:
    runs = [Trainer(RunConfig(balancing=name, aux_loss_coef=alpha)).run(10) for alpha in (0.0, 10.0)]
    np.testing.assert_array_equal(runs[0].column("task_loss"), runs[1].column("task_loss"))
    assert not runs[1].column("auxiliary_loss").any()


@pytest.mark.parametrize("name", ["load_balancing", "importance"])
def test_with_alpha_zero_a_loss_trains_like_no_mechanism(name: str) -> None:
    runs = [Trainer(RunConfig(balancing=balancing)).run(10) for balancing in (name, "none")]
    np.testing.assert_array_equal(runs[0].column("task_loss"), runs[1].column("task_loss"))


@pytest.mark.parametrize("name", ["load", "importance_and_load"])
def test_with_alpha_zero_a_loss_that_adds_noise_trains_like_that_noise_alone(name: str) -> None:
    noise_alone = Trainer(RunConfig(balancing="none", router_noise="gaussian")).run(10)
    history = Trainer(RunConfig(balancing=name)).run(10)
    np.testing.assert_array_equal(history.column("task_loss"), noise_alone.column("task_loss"))
    assert (history.column("task_loss") != Trainer(RunConfig(balancing="none")).run(10).column("task_loss")).any()


# Selections


@given(
    seed=st.integers(0, 1000), tokens=st.integers(1, 40), top_k=st.integers(1, 8), scale=st.sampled_from([0, 0.1, 1])
)
def test_the_bias_is_added_to_the_probabilities_for_selection_only(
    seed: int, tokens: int, top_k: int, scale: float
) -> None:
    random = np.random.default_rng(seed)
    logits, bias = random.normal(size=(tokens, 8)), scale * random.normal(size=8)
    method = METHODS["bias"](8)
    method.bias = torch.from_numpy(bias)
    routing = route(torch.from_numpy(logits), RunConfig(top_k=top_k), method.select)
    probs = oracles.softmax(logits)
    expected = oracles.choices(probs + bias, top_k)
    np.testing.assert_array_equal(routing.expert_index.numpy(), expected)
    np.testing.assert_allclose(routing.combine_weights.numpy(), np.take_along_axis(probs, expected, 1))
    np.testing.assert_allclose(routing.probs.numpy(), probs)


@given(seed=st.integers(0, 1000), rate=st.sampled_from([0.0, 0.001, 0.01, 1.0]))
def test_the_bias_moves_by_its_rate_against_the_load(seed: int, rate: float) -> None:
    random = np.random.default_rng(seed)
    method, bias = METHODS["bias"](8), np.zeros(8)
    for _ in range(5):
        # With 64 pairs the mean share 1/8 occurs exactly, and the bias of such an expert stays unchanged.
        load = random.multinomial(64, random.dirichlet(np.ones(8))) / 64
        method.after_step(load, RunConfig(bias_rate=rate))
        bias = oracles.updated_bias(bias, load, rate)
    np.testing.assert_allclose(method.bias.numpy(), bias, atol=1e-6)


def test_an_expert_with_the_mean_load_keeps_its_bias() -> None:
    method = METHODS["bias"](4)
    method.after_step(np.array([0.5, 0.25, 0.25, 0.0]), RunConfig(bias_rate=0.1))
    np.testing.assert_allclose(method.bias.numpy(), [-0.1, 0, 0, 0.1])


def test_the_bias_is_centred_where_deepseeks_rule_lets_it_drift() -> None:
    # One expert has everything: it falls by 0.01 and seven rise, so the mean moves by 0.01 · (7 − 1) / 8 = 0.0075.
    method = METHODS["bias"](8)
    method.after_step(np.eye(8)[0], RunConfig(bias_rate=0.01))
    np.testing.assert_allclose(method.bias.numpy(), [-0.0175] + [0.0025] * 7, rtol=1e-5)


def test_a_proportional_update_moves_by_how_far_the_load_is_from_the_mean() -> None:
    # E·load = 2, 1, 1, 0: by hand −1, 0, 0, +1 times the rate; with 0.7, 0.1, 0.1, 0.1: −1.8 and three times +0.6.
    for load, expected in (
        ([0.5, 0.25, 0.25, 0.0], [-0.1, 0, 0, 0.1]),
        ([0.7, 0.1, 0.1, 0.1], [-0.18, 0.06, 0.06, 0.06]),
    ):
        method = METHODS["bias"](4)
        method.after_step(np.array(load), RunConfig(bias_rate=0.1, bias_update="proportional"))
        np.testing.assert_allclose(method.bias.numpy(), expected, atol=1e-6)


@given(seed=st.integers(0, 1000), top_k=st.integers(1, 8), drift=st.floats(-1000, 1000))
def test_what_all_biases_have_in_common_does_not_affect_selection(seed: int, top_k: int, drift: float) -> None:
    random = np.random.default_rng(seed)
    logits, bias = torch.from_numpy(random.normal(size=(40, 8))), torch.from_numpy(0.1 * random.normal(size=8))
    method, drifted = METHODS["bias"](8), METHODS["bias"](8)
    method.bias, drifted.bias = bias, bias + drift
    one, other = (m.select(logits, logits.softmax(1), top_k).expert_index for m in (method, drifted))
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "bias"])
def test_no_other_mechanism_has_a_bias_or_learns_from_the_load(name: str) -> None:
    method = METHODS[name](4)
    method.after_step(np.array([1.0, 0.0, 0.0, 0.0]), RunConfig())
    assert not method.bias.any()


@given(seed=st.integers(0, 1000), tokens=st.integers(2, 40), top_k=st.integers(1, 8))
def test_sinkhorn_selects_by_its_scores_and_weights_by_probabilities(seed: int, tokens: int, top_k: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(tokens, 8)) + 2 * random.normal(size=8)
    routing = route(torch.from_numpy(logits), RunConfig(top_k=top_k), METHODS["sinkhorn"](8).select)
    expected = oracles.choices(oracles.sinkhorn(logits), top_k)
    np.testing.assert_array_equal(routing.expert_index.numpy(), expected)
    weights = np.take_along_axis(oracles.softmax(logits), expected, 1)
    np.testing.assert_allclose(routing.combine_weights.numpy(), weights)


@given(seed=st.integers(0, 1000), tokens=st.integers(1, 40), top_k=st.integers(1, 8))
def test_expert_choice_chooses_by_the_probabilities(seed: int, tokens: int, top_k: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(tokens, 8)) * random.uniform(0, 3, size=(tokens, 1))
    routing = route(torch.from_numpy(logits), RunConfig(top_k=top_k), METHODS["expert_choice"](8).select)
    assert routing.assigned is not None
    has = np.zeros((tokens, 8), dtype=bool)
    token, slot = np.nonzero(routing.assigned.numpy())
    has[token, routing.expert_index.numpy()[token, slot]] = True
    np.testing.assert_array_equal(has, oracles.expert_choice(oracles.softmax(logits), top_k))
    assert routing.kept is not None
    np.testing.assert_array_equal(routing.kept.numpy(), routing.assigned.numpy())


def test_without_a_mechanism_the_routers_own_choice_holds() -> None:
    logits = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    selection = Balancing(8).select(logits, logits.softmax(1), 3)
    np.testing.assert_array_equal(selection.expert_index.numpy(), oracles.choices(logits.numpy(), 3))


# Results


def largest_load(seed: int, name: str, alpha: float) -> float:
    """The largest smoothed load after 300 steps of the topics task."""
    run = run_of(RunConfig(seed=seed, balancing=name, aux_loss_coef=alpha), 300)
    return run.history.layer().last("smoothed_load").max()


# Measured on seeds 0 to 9: the largest smoothed load of the worst seed after 300 / 600 steps.
@pytest.mark.parametrize(
    ("name", "alpha"),
    [
        ("load_balancing", 0.03),  # 0.225 / 0.240
        ("load_balancing", 0.1),  # 0.169 / 0.204
        ("importance", 0.1),  # 0.279 / 0.286
        ("load", 0.1),  # 0.261 / 0.258
        ("importance_and_load", 0.1),  # 0.158 / 0.191
        ("bias", 0.0),  # 0.153 / 0.138
        ("sinkhorn", 0.0),  # 0.227 / 0.223
    ],
)
def test_every_mechanism_evens_out_the_load(name: str, alpha: float) -> None:
    assert max(largest_load(seed, name, alpha) for seed in range(3)) <= 0.40


def test_without_balancing_routing_collapses() -> None:
    # Measured on seeds 0 to 9, the smallest of the largest smoothed loads after 300 / 600 steps: 0.993 / 0.993.
    assert min(largest_load(seed, "none", 0.1) for seed in range(3)) > 0.5


def test_under_expert_choice_every_load_is_exactly_even() -> None:
    history = Trainer(RunConfig(balancing="expert_choice")).run(50)
    assert (history.layer().column("load") == 1 / 8).all()
    assert (history.column("max_violation") == 0).all()
