"""From logits to expert assignments: selection, noise, capacity and weights together, against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moe_sim import RunConfig
from moe_sim.router.balancing import METHODS, Balancing
from moe_sim.router.routing import Routing, route
from moe_sim.router.selection import Selection
from moe_sim.trainer.moe import MoE, Router
from tests.support import oracles

PLAIN = Balancing(8)


def random_logits(seed: int, tokens: int, num_experts: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(tokens, num_experts)))


def crowded_logits(seed: int, tokens: int, num_experts: int) -> Tensor:
    """Logits that make some experts popular with most tokens."""
    return random_logits(seed, tokens, num_experts) + 2 * random_logits(seed + 1, 1, num_experts)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def expert_choice_pairs(probs: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """The experts of each token, highest probability first, and which slots are filled."""
    has = oracles.expert_choice(probs, top_k)
    slots = int(has.sum(1).max())
    chosen, assigned = np.zeros((len(has), slots), dtype=int), np.zeros((len(has), slots), dtype=bool)
    for token, row in enumerate(has):
        experts = sorted(np.flatnonzero(row), key=lambda expert: -probs[token, expert])
        chosen[token, : len(experts)], assigned[token, : len(experts)] = experts, True
    return chosen, assigned


@given(seed=st.integers(0, 1000), tokens=st.integers(1, 50), num_experts=st.integers(2, 64), top_k=st.integers(1, 8))
def test_the_most_probable_experts_are_chosen_and_weighted_by_probability(
    seed: int, tokens: int, num_experts: int, top_k: int
) -> None:
    top_k = min(top_k, num_experts)
    logits = random_logits(seed, tokens, num_experts)
    routing = route(logits, RunConfig(num_experts=num_experts, top_k=top_k))
    probs, expected = oracles.softmax(logits.numpy()), oracles.choices(logits.numpy(), top_k)
    np.testing.assert_array_equal(routing.expert_index.numpy(), expected)
    np.testing.assert_array_equal(routing.dispatch_index.numpy(), expected)
    np.testing.assert_allclose(routing.probs.numpy(), probs)
    np.testing.assert_allclose(routing.combine_weights.numpy(), np.take_along_axis(probs, expected, 1))
    assert routing.expert_index.dtype == torch.int64
    assert routing.kept is None
    assert routing.assigned is None


def test_tied_experts_have_equal_weights() -> None:
    np.testing.assert_allclose(route(torch.zeros(5, 8), RunConfig(top_k=2)).combine_weights.numpy(), 1 / 8)


def test_a_confident_router_chooses_by_logits_where_probabilities_underflow() -> None:
    # Below e^-104 all float32 probabilities are 0, and their top-k would be arbitrary.
    logits = torch.tensor([[0.0, -200.0, -150.0, -300.0]])
    assert route(logits, RunConfig(num_experts=4, top_k=3)).expert_index.tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("experts_choose", [False, True], ids=["tokens choose", "experts choose"])
@pytest.mark.parametrize("overflow", ["drop", "reroute"])
@pytest.mark.parametrize("drop_order", ["position", "probability"])
@given(
    seed=st.integers(0, 1000),
    tokens=st.integers(1, 50),
    num_experts=st.integers(2, 10),
    top_k=st.integers(1, 4),
    factor=st.sampled_from([0.25, 0.5, 1.0, 1.25, 2.0]),
)
def test_pairs_are_seated_by_the_configured_rules(
    experts_choose: bool, overflow: str, drop_order: str,
    seed: int, tokens: int, num_experts: int, top_k: int, factor: float,
) -> None:  # fmt: skip
    top_k = min(top_k, num_experts)
    logits = crowded_logits(seed, tokens, num_experts)
    config = RunConfig(
        num_experts=num_experts, top_k=top_k, capacity_factor=factor, overflow=overflow, drop_order=drop_order
    )
    method = METHODS["expert_choice" if experts_choose else "none"](num_experts)
    routing = route(logits, config, method.select)

    probs = oracles.softmax(logits.numpy())
    chosen, assigned = oracles.choices(logits.numpy(), top_k), np.ones((tokens, top_k), dtype=bool)
    if experts_choose:
        chosen, assigned = expert_choice_pairs(probs, top_k)
    weights = np.take_along_axis(probs, chosen, 1)
    by_probability = drop_order == "probability" or experts_choose
    pairs = oracles.seating(assigned, weights if by_probability else None)
    capacity = int(np.ceil(factor * tokens * top_k / num_experts))
    dispatch, kept = chosen, oracles.within_capacity(chosen, capacity, pairs)
    if overflow == "reroute":
        dispatch, kept = oracles.reroute(chosen, capacity, pairs, logits.numpy())

    assert routing.kept is not None
    np.testing.assert_array_equal(routing.kept.numpy(), kept)
    np.testing.assert_array_equal(routing.expert_index.numpy()[assigned], chosen[assigned])
    np.testing.assert_array_equal(routing.dispatch_index.numpy()[kept], dispatch[kept])
    # Rerouted or not, a pair is weighted by the probability of the expert that computes it.
    expected = np.take_along_axis(probs, dispatch, 1)
    np.testing.assert_allclose(routing.combine_weights.numpy()[kept], expected[kept])
    assert routing.chosen().tolist() == [(chosen[assigned] == expert).sum() for expert in range(num_experts)]
    assert routing.processed().tolist() == [(dispatch[kept] == expert).sum() for expert in range(num_experts)]
    first = chosen[:, 0][assigned[:, 0]]
    assert routing.first_chosen().tolist() == [(first == expert).sum() for expert in range(num_experts)]
    np.testing.assert_array_equal(routing.served(), kept.any(1))


def test_a_rerouted_pair_gives_the_router_the_gradient_of_its_new_expert() -> None:
    # Four tokens that prefer expert 0, C = ⌈1 · 4 / 2⌉ = 2 seats: tokens 2 and 3 go to expert 1.
    logits = torch.tensor([[2.0, 0.0]] * 4, requires_grad=True)
    config = RunConfig(num_experts=2, capacity_factor=1.0, overflow="reroute")
    routing = route(logits, config)
    assert routing.dispatch_index.ravel().tolist() == [0, 0, 1, 1]
    assert routing.expert_index.ravel().tolist() == [0, 0, 0, 0]
    routing.combine_weights.sum().backward()
    # ∂p_i/∂z_i = p_i (1 − p_i) > 0 for the computing expert.
    assert (logits.grad[:2, 0] > 0).all()
    assert (logits.grad[2:, 0] < 0).all()
    assert (logits.grad[2:, 1] > 0).all()


def test_without_the_capacity_limit_every_pair_is_kept() -> None:
    logits = crowded_logits(0, 64, 8)
    config = RunConfig(top_k=2, capacity_factor=0.25, overflow="reroute")
    routing = route(logits, config, limited=False)
    assert routing.kept is None
    assert torch.equal(routing.dispatch_index, routing.expert_index)
    assert routing.served().all()


def test_selection_gets_detached_tensors() -> None:
    seen: list[Tensor] = []

    def select(logits: Tensor, probs: Tensor, top_k: int) -> Selection:
        seen.extend((logits, probs))
        return PLAIN.select(logits, probs, top_k)

    logits = random_logits(0, 16, 8).requires_grad_()
    std = torch.full((16, 8), 0.5, dtype=torch.float64, requires_grad=True)
    for noise_std in (0.0, 1.0, std):
        routing = route(logits, RunConfig(capacity_factor=0.5), select, noise=generator(0), noise_std=noise_std)
        assert routing.combine_weights.requires_grad
        assert routing.probs.requires_grad
    assert len(seen) == 6
    assert not any(scores.requires_grad for scores in seen)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "hash"])  # which averages its experts
@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
def test_with_every_mechanism_weights_are_the_raw_probabilities_of_the_chosen_experts(name: str, noisy: bool) -> None:
    method = METHODS[name](8)
    method.bias = torch.linspace(2, -2, 8)
    logits = random_logits(5, 64, 8).float().requires_grad_()
    routing = route(
        logits, RunConfig(top_k=2), method.select, noise=generator(3) if noisy else None, noise_std=0.5
    )  # fmt: skip
    probs = oracles.softmax(routing.noisy_logits.detach().numpy())
    expected = np.take_along_axis(probs, routing.expert_index.numpy(), 1)
    np.testing.assert_allclose(routing.combine_weights.detach().numpy(), expected, rtol=1e-5)
    # With σ = 0.5 and 512 numbers they differ; without noise they are the same.
    assert torch.equal(routing.noisy_logits, logits) != noisy
    # And the gradient is that of the probabilities alone.
    (gradient,) = torch.autograd.grad(routing.combine_weights.sum(), logits, retain_graph=True)
    (plain,) = torch.autograd.grad(routing.noisy_logits.softmax(1).gather(1, routing.expert_index).sum(), logits)
    np.testing.assert_allclose(gradient.numpy(), plain.numpy(), atol=1e-7)


def test_renormalized_weights_sum_to_one_and_keep_their_proportions() -> None:
    logits = random_logits(3, 20, 8)
    plain = route(logits, RunConfig(top_k=3)).combine_weights
    scaled = route(logits, RunConfig(top_k=3, renormalize=True)).combine_weights
    np.testing.assert_allclose(scaled.sum(1).numpy(), 1)
    np.testing.assert_allclose((scaled[:, 1:] / scaled[:, :1]).numpy(), (plain[:, 1:] / plain[:, :1]).numpy())
    assert (plain.sum(1) < 1).all()


@pytest.mark.parametrize("overflow", ["drop", "reroute"])
def test_renormalizing_uses_the_experts_that_compute(overflow: str) -> None:
    logits = crowded_logits(0, 64, 8)
    config = RunConfig(top_k=2, capacity_factor=1.0, overflow=overflow, renormalize=True)
    routing = route(logits, config)
    probs = np.take_along_axis(oracles.softmax(logits.numpy()), routing.dispatch_index.numpy(), 1)
    np.testing.assert_allclose(routing.combine_weights.numpy(), probs / probs.sum(1, keepdims=True))


def test_renormalizing_ignores_empty_slots_and_handles_a_token_without_experts() -> None:
    # ⌈10 · 2 / 4⌉ = 5 picks per expert: the four tokens that prefer it, and the earlier of two without a preference.
    rows = [[5.0, 5.0, 0.0, 0.0]] * 4 + [[0.0, 0.0, 5.0, 5.0]] * 4 + [[0.0] * 4] * 2
    logits = torch.tensor(rows, requires_grad=True)
    # No run renormalizes under expert choice, but any selection may leave slots empty.
    config = RunConfig(num_experts=4, top_k=2, renormalize=True)
    routing = route(logits, config, METHODS["expert_choice"](4).select)
    assert routing.assigned is not None
    assert routing.kept is not None
    assert routing.kept.sum(1).tolist() == [2] * 8 + [4, 0]
    assert routing.served().tolist() == [True] * 9 + [False]
    weights = routing.combine_weights * routing.kept
    np.testing.assert_allclose(weights.detach().sum(1).numpy(), [1] * 9 + [0])
    weights[:, 0].sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].any()
    assert not logits.grad[9].any()


@pytest.mark.parametrize("drop_order", ["position", "probability"])
def test_an_expert_that_chooses_keeps_its_best_tokens_under_a_capacity_limit(drop_order: str) -> None:
    # Two experts pick two of four tokens each, expert 0 tokens 2 and 3, expert 1 tokens 0 and 1. ⌈0.5 · 4 / 2⌉ = 1
    # seat each: the best of them are token 3 with 0.9 and token 0 with 0.4.
    probs = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.9, 0.1]])
    config = RunConfig(num_experts=2, capacity_factor=0.5, drop_order=drop_order)
    routing = route(probs.log(), config, METHODS["expert_choice"](2).select)
    assert routing.served().tolist() == [True, False, False, True]
    assert routing.dispatch_index[routing.kept].tolist() == [1, 0]


@given(
    seed=st.integers(0, 1000), tokens=st.integers(1, 50), num_experts=st.integers(2, 10), top_k=st.integers(1, 4),
    factor=st.floats(1, 4),
)  # fmt: skip
def test_under_expert_choice_a_capacity_factor_of_one_or_more_drops_nothing(
    seed: int, tokens: int, num_experts: int, top_k: int, factor: float
) -> None:
    logits, top_k = crowded_logits(seed, tokens, num_experts), min(top_k, num_experts)
    config = RunConfig(num_experts=num_experts, top_k=top_k, capacity_factor=factor)
    routing = route(logits, config, METHODS["expert_choice"](num_experts).select)
    assert routing.kept is not None
    assert routing.assigned is not None
    assert torch.equal(routing.kept, routing.assigned)


def test_equally_improbable_experts_share_the_weight_where_their_probabilities_underflow() -> None:
    # e^-200 is 0 in float32, but the ratio of two of them is 1.
    logits = torch.tensor([[0.0, -200.0, -200.0]], requires_grad=True)
    config = RunConfig(num_experts=3, top_k=2, renormalize=True)
    weights = route(logits, config, lambda *_: Selection(torch.tensor([[1, 2]]))).combine_weights
    assert weights.tolist() == [[0.5, 0.5]]
    weights[0, 0].backward()
    # w = softmax(z_1, z_2): ∂w_1/∂z_1 = w_1 (1 − w_1) = 1/4, ∂w_1/∂z_2 = −w_1 w_2 = −1/4.
    assert logits.grad.tolist() == [[0.0, 0.25, -0.25]]


@given(
    seed=st.integers(0, 1000), top_k=st.integers(2, 5), scale=st.sampled_from([1.0, 30.0, 300.0]),
    name=st.sampled_from(["none", "bias", "sinkhorn"]),
)  # fmt: skip
def test_renormalized_weights_are_the_softmax_over_the_chosen_logits(
    seed: int, top_k: int, scale: float, name: str
) -> None:
    logits = (scale * random_logits(seed, 40, 8)).float()
    method = METHODS[name](8)
    if name == "bias":
        method.bias = 2 * torch.rand(8, generator=generator(seed))
    routing = route(logits, RunConfig(top_k=top_k, renormalize=True), method.select)
    chosen = np.take_along_axis(logits.numpy(), routing.expert_index.numpy(), 1)
    np.testing.assert_allclose(routing.combine_weights.numpy(), oracles.softmax(chosen), rtol=1e-4, atol=1e-6)


def test_renormalizing_ignores_empty_slots_where_probabilities_underflow() -> None:
    # The second slot of token 0 is empty; token 1 has no expert.
    logits = torch.tensor([[0.0, -200.0, -150.0], [0.0, -200.0, -150.0]], requires_grad=True)
    selection = Selection(torch.tensor([[1, 0], [1, 2]]), torch.tensor([[True, False], [False, False]]))
    config = RunConfig(num_experts=3, top_k=2, renormalize=True)
    routing = route(logits, config, lambda *_: selection)
    weights = routing.combine_weights * routing.kept
    assert weights.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    weights.sum().backward()
    assert not logits.grad.any()


def test_without_a_generator_there_is_no_noise() -> None:
    logits = random_logits(0, 30, 8)
    routing = route(logits, RunConfig(), noise_std=5.0)
    assert routing.noisy_logits is logits
    assert routing.noise_std == 0
    assert torch.equal(routing.expert_index, route(logits, RunConfig()).expert_index)


def test_gaussian_noise_affects_selection_and_weights_but_not_the_importance() -> None:
    logits = random_logits(0, 4096, 8)
    routing = route(logits, RunConfig(top_k=2), noise=generator(0), noise_std=0.5)
    noise = routing.noisy_logits - logits
    # 32 768 draws: the sample's standard deviation is off by 0.5/√(2·32768) = 0.002, its mean by 0.003 (one σ).
    assert noise.std().item() == pytest.approx(0.5, abs=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=0.015)
    chosen = oracles.choices(routing.noisy_logits.numpy(), 2)
    np.testing.assert_array_equal(routing.expert_index.numpy(), chosen)
    np.testing.assert_allclose(routing.probs.numpy(), oracles.softmax(logits.numpy()))
    noisy_probs = oracles.softmax(routing.noisy_logits.numpy())
    np.testing.assert_allclose(routing.combine_weights.numpy(), np.take_along_axis(noisy_probs, chosen, 1))


def test_noise_has_the_given_strength_entry_by_entry() -> None:
    logits = random_logits(0, 4096, 8)
    std = torch.linspace(0.1, 3, 8, dtype=torch.float64).expand(4096, 8)
    routing = route(logits, RunConfig(), noise=generator(0), noise_std=std)
    assert routing.noise_std is std
    # 4096 draws per expert: the sample's standard deviation is off by 1.1 % (one σ).
    np.testing.assert_allclose((routing.noisy_logits - logits).std(0).numpy(), std[0].numpy(), rtol=0.05)


def some_layer(router_noise: str, noise_std: float = 0.3) -> tuple[MoE, RunConfig, Tensor]:
    """A layer whose learned noise differs from token to token."""
    config = RunConfig(router_noise=router_noise, noise_std=noise_std)
    moe = MoE(config, 32, generator(0))
    with torch.no_grad():
        moe.router.noise_weight.normal_(0, 0.3, generator=generator(4))
    return moe, config, torch.randn(40, 32, generator=generator(1))


def test_learned_noise_is_the_softplus_of_a_linear_map() -> None:
    moe, config, x = some_layer("learned")
    routing = moe.route(x, config, PLAIN, noise=generator(2))
    assert isinstance(routing.noise_std, Tensor)
    std = oracles.softplus(x.numpy().astype(float) @ moe.router.noise_weight.detach().numpy())
    assert std.max() / std.min() > 10
    np.testing.assert_allclose(routing.noise_std.detach().numpy(), std, rtol=1e-4)
    drawn = torch.randn(40, 8, generator=generator(2)).numpy()
    expected = x.numpy() @ moe.router.weight.detach().numpy() + std * drawn
    np.testing.assert_allclose(routing.noisy_logits.detach().numpy(), expected, atol=1e-4)


def test_learned_noise_starts_with_the_same_strength_everywhere() -> None:
    moe = MoE(RunConfig(), 32, generator(0))
    std = moe.router.noise_std(torch.randn(5, 32), RunConfig(router_noise="learned"), PLAIN)
    # softplus(0) = ln 2
    np.testing.assert_allclose(std.detach().numpy(), np.log(2), rtol=1e-6)


def test_learned_noise_that_underflows_leaves_finite_gradients() -> None:
    moe, config, x = some_layer("learned")
    with torch.no_grad():
        moe.router.noise_weight.mul_(1e4)
    assert (F.softplus(x @ moe.router.noise_weight) == 0).any()
    routing = moe.route(x, config, PLAIN, noise=generator(2))
    loss = METHODS["load"](8).loss(routing, config)
    assert loss is not None
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in moe.router.parameters())


@pytest.mark.parametrize("noise_std", [-1.0, torch.tensor([[1.0, -1.0]])], ids=["number", "tensor"])
def test_a_negative_standard_deviation_is_rejected(noise_std: float | Tensor) -> None:
    with pytest.raises(ValueError, match="noise_std must not be negative"):
        route(torch.zeros(1, 2), RunConfig(num_experts=2), noise=generator(0), noise_std=noise_std)


def test_the_task_loss_trains_the_learned_noise() -> None:
    moe, config, x = some_layer("learned")
    moe(x, config, PLAIN, noise=generator(2))[0].sum().backward()
    assert moe.router.noise_weight.grad.any()
    moe.zero_grad()
    moe(x, config, PLAIN)[0].sum().backward()
    assert moe.router.noise_weight.grad is None


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("router_noise", ["none", "jitter", "gaussian", "learned"])
def test_only_the_losses_that_need_gaussian_noise_add_it(name: str, router_noise: str) -> None:
    moe, config, x = some_layer(router_noise)
    routing = moe.route(x, config, METHODS[name](8), noise=generator(2))
    needs = name in ("load", "importance_and_load")
    if router_noise == "learned":
        assert isinstance(routing.noise_std, Tensor)
    else:
        assert routing.noise_std == (0.3 if router_noise == "gaussian" or needs else 0)
    assert torch.equal(routing.noisy_logits, routing.logits) == (router_noise in ("none", "jitter") and not needs)


def test_jitter_multiplies_the_input_by_a_factor_within_its_bounds() -> None:
    router = Router(8, 8, torch.Generator().manual_seed(0)).requires_grad_(False)
    router.weight.copy_(torch.eye(8))
    x = 1 + torch.rand(500, 8, generator=torch.Generator().manual_seed(1))
    factor = router(x, 0.25, torch.Generator().manual_seed(2)) / x
    # 4000 draws from U(0.75, 1.25): the extremes come within 0.01 of the bounds, the mean has σ 0.0023.
    assert 0.75 <= factor.min() < 0.76
    assert 1.24 < factor.max() <= 1.25 + 1e-6
    assert factor.mean().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("router_noise", ["jitter", "gaussian", "learned"])
def test_noise_acts_in_training_but_not_in_evaluation(router_noise: str) -> None:
    moe, config, x = some_layer(router_noise)
    plain = x @ moe.router.weight
    for how in ({}, {"inference": True}):
        assert torch.equal(moe.route(x, config, PLAIN, **how).noisy_logits, plain)
    assert not torch.allclose(moe.route(x, config, PLAIN, noise=generator(2)).noisy_logits, plain)


def test_jitter_is_capped_at_one() -> None:
    moe, config, x = some_layer("jitter", noise_std=10.0)
    routing = moe.route(x, config, PLAIN, noise=generator(2))
    factor = 2 * torch.rand(x.shape, generator=generator(2))
    np.testing.assert_allclose(
        routing.logits.detach().numpy(), ((x * factor) @ moe.router.weight).detach().numpy(), atol=1e-5
    )


@pytest.mark.parametrize("name", [name for name in METHODS if name != "hash"])  # which looks at the token itself
def test_inference_has_no_capacity_limit_and_routes_each_token_as_if_alone(name: str) -> None:
    moe, config, x = some_layer("none")
    config = config.replace(top_k=2, capacity_factor=0.25, overflow="reroute", balancing=name)
    method = METHODS[name](8)
    if name == "bias":
        method.bias = torch.linspace(0.2, -0.2, 8)

    def experts(tokens: Tensor) -> list[list[int]]:
        routing: Routing = moe.route(tokens, config, method, inference=True)
        assert routing.kept is None
        return routing.expert_index.tolist()

    assert experts(x) == [experts(x[t : t + 1])[0] for t in range(len(x))]
    scores = F.softmax(x @ moe.router.weight, dim=1).detach().numpy() + method.bias.numpy()
    assert experts(x) == oracles.choices(scores, 2).tolist()
