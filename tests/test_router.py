"""Selection, noise and capacity, against plain Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import RunConfig
from moe_sim.model import MoE, Router
from moe_sim.router import expert_capacity, rank_within_expert, route, within_capacity
from tests import oracles


def random_logits(seed: int, tokens: int, num_experts: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(tokens, num_experts)))


@st.composite
def crowds(draw: st.DrawFn) -> tuple[np.ndarray, int, np.ndarray]:
    """Distinct choices for each token, the number of experts, and priorities with many ties."""
    num_experts = draw(st.integers(2, 10))
    top_k = draw(st.integers(1, min(3, num_experts)))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    tokens = draw(st.integers(1, 40))
    # A low concentration crowds the tokens onto few experts.
    popularity = random.dirichlet(np.full(num_experts, draw(st.sampled_from([0.3, 1.0, 10.0])))) + 1e-9
    popularity /= popularity.sum()
    chosen = [random.choice(num_experts, top_k, replace=False, p=popularity) for _ in range(tokens)]
    return np.array(chosen), num_experts, random.integers(0, 8, size=(tokens, top_k)) / 8


@given(seed=st.integers(0, 1000), tokens=st.integers(1, 50), num_experts=st.integers(2, 64), top_k=st.integers(1, 8))
def test_the_experts_of_highest_probability_are_chosen(seed: int, tokens: int, num_experts: int, top_k: int) -> None:
    top_k = min(top_k, num_experts)
    logits = random_logits(seed, tokens, num_experts)
    routing = route(logits, RunConfig(num_experts=num_experts, top_k=top_k), None)
    probs, expected = oracles.softmax(logits.numpy()), oracles.choices(logits.numpy(), top_k)
    np.testing.assert_array_equal(routing.expert_index.numpy(), expected)
    np.testing.assert_allclose(routing.probs.numpy(), probs)
    np.testing.assert_allclose(routing.combine_weights.numpy(), np.take_along_axis(probs, expected, 1))
    assert routing.expert_index.dtype == torch.int64
    assert routing.kept is None


@pytest.mark.parametrize("top_k", [1, 2, 8])
def test_tied_experts_are_chosen_once_each(top_k: int) -> None:
    routing = route(torch.zeros(5, 8), RunConfig(top_k=top_k), None)
    assert all(len(set(row)) == top_k for row in routing.expert_index.tolist())
    np.testing.assert_allclose(routing.combine_weights.numpy(), 1 / 8)


def test_a_tie_below_the_winner_does_not_touch_the_winner() -> None:
    routing = route(torch.tensor([[0.0, 0.0, 1.0, 0.0]]), RunConfig(num_experts=4, top_k=2), None)
    assert routing.expert_index[0, 0] == 2
    assert routing.expert_index[0, 1] in (0, 1, 3)


@pytest.mark.parametrize(
    ("tokens", "num_experts", "top_k", "capacity_factor", "expected"),
    [
        (256, 8, 1, 1.0, 32),  # 256 / 8
        (256, 8, 1, 1.25, 40),  # 1.25 · 32
        (256, 8, 2, 1.0, 64),  # 512 / 8
        (100, 8, 1, 1.0, 13),  # 12.5 rounded up
        (32, 64, 1, 0.25, 1),  # 0.125 rounded up: never 0
    ],
)
def test_capacity_is_the_fair_share_times_the_factor_rounded_up(
    tokens: int, num_experts: int, top_k: int, capacity_factor: float, expected: int
) -> None:
    capacity = expert_capacity(tokens=tokens, num_experts=num_experts, top_k=top_k, capacity_factor=capacity_factor)
    assert capacity == expected


@given(
    tokens=st.integers(32, 2048), num_experts=st.integers(2, 64), top_k=st.integers(1, 8), quarters=st.integers(1, 16)
)
def test_capacity_equals_exact_arithmetic(tokens: int, num_experts: int, top_k: int, quarters: int) -> None:
    capacity = expert_capacity(tokens=tokens, num_experts=num_experts, top_k=top_k, capacity_factor=quarters / 4)
    assert capacity == oracles.expert_capacity(tokens, num_experts, top_k, Fraction(quarters, 4))


@pytest.mark.parametrize("name", ["tokens", "num_experts", "top_k", "capacity_factor"])
@pytest.mark.parametrize("value", [0, -1])
def test_capacity_of_nothing_is_refused(name: str, value: int) -> None:
    sizes = {"tokens": 256, "num_experts": 8, "top_k": 1, "capacity_factor": 1.0, name: value}
    with pytest.raises(ValueError, match="positive"):
        expert_capacity(**sizes)


def test_first_choices_are_seated_before_second_choices() -> None:
    # One seat at each expert. Token 1's first choice is expert 1, token 0's second choice is expert 1 too:
    # the first choice wins although its token comes later.
    kept = within_capacity(torch.tensor([[0, 1], [1, 0]]), 2, 1)
    assert kept.tolist() == [[True, False], [True, False]]


def test_the_highest_weights_are_seated_first_by_probability() -> None:
    priority = torch.tensor([[0.2], [0.9], [0.5]])
    kept = within_capacity(torch.zeros(3, 1, dtype=torch.int64), 2, 2, priority)
    assert kept.tolist() == [[False], [True], [True]]


@given(crowd=crowds(), capacity=st.integers(1, 12), by_priority=st.booleans())
def test_seating_equals_seating_one_after_the_other(
    crowd: tuple[np.ndarray, int, np.ndarray], capacity: int, by_priority: bool
) -> None:
    chosen, num_experts, weights = crowd
    priority = weights if by_priority else None
    kept = within_capacity(
        torch.as_tensor(chosen), num_experts, capacity, None if priority is None else torch.as_tensor(priority)
    ).numpy()
    np.testing.assert_array_equal(kept, oracles.within_capacity(chosen, capacity, priority))
    for expert in range(num_experts):
        assert kept[chosen == expert].sum() == min(capacity, (chosen == expert).sum())


@given(crowd=crowds(), capacity=st.integers(1, 12), by_priority=st.booleans())
def test_a_larger_capacity_never_drops_what_a_smaller_one_kept(
    crowd: tuple[np.ndarray, int, np.ndarray], capacity: int, by_priority: bool
) -> None:
    chosen, num_experts, weights = crowd
    priority = torch.as_tensor(weights) if by_priority else None
    small = within_capacity(torch.as_tensor(chosen), num_experts, capacity, priority)
    large = within_capacity(torch.as_tensor(chosen), num_experts, capacity + 1, priority)
    assert not (small & ~large).any()


@pytest.mark.parametrize("drop_order", ["position", "probability"])
def test_routing_drops_by_the_order_of_the_configuration(drop_order: str) -> None:
    logits = random_logits(0, 64, 4) + torch.tensor([2.0, 0.0, 0.0, 0.0])
    config = RunConfig(num_experts=4, top_k=2, capacity_factor=0.75, drop_order=drop_order)
    routing = route(logits, config, None)
    # C = ⌈0.75 · 64 · 2 / 4⌉ = 24
    weights = routing.combine_weights.numpy() if drop_order == "probability" else None
    expected = oracles.within_capacity(routing.expert_index.numpy(), 24, weights)
    assert routing.kept is not None
    assert not expected.all()
    np.testing.assert_array_equal(routing.kept.numpy(), expected)


def test_the_rank_counts_earlier_entries_of_the_same_expert() -> None:
    expert = np.array([2, 0, 2, 2, 0])
    assert rank_within_expert(expert, np.array([2, 0, 3])).tolist() == [0, 0, 1, 2, 1]


def test_renormalized_weights_sum_to_one_and_keep_their_proportions() -> None:
    logits = random_logits(3, 20, 8)
    plain = route(logits, RunConfig(top_k=3), None).combine_weights
    scaled = route(logits, RunConfig(top_k=3, renormalize=True), None).combine_weights
    np.testing.assert_allclose(scaled.sum(1).numpy(), 1)
    np.testing.assert_allclose((scaled[:, 1:] / scaled[:, :1]).numpy(), (plain[:, 1:] / plain[:, :1]).numpy())
    assert (plain.sum(1) < 1).all()


def test_evaluation_has_no_noise() -> None:
    logits = random_logits(0, 30, 8)
    noisy = route(logits, RunConfig(router_noise="gaussian", noise_std=5.0), None)
    assert torch.equal(noisy.noisy_logits, logits)
    assert torch.equal(noisy.expert_index, route(logits, RunConfig(), None).expert_index)


def test_gaussian_noise_selects_but_leaves_the_importance_alone() -> None:
    logits = random_logits(0, 4096, 8)
    config = RunConfig(top_k=2, router_noise="gaussian", noise_std=0.5)
    routing = route(logits, config, torch.Generator().manual_seed(0))
    noise = routing.noisy_logits - logits
    # 32 768 draws: the sample's standard deviation is off by 0.5/√(2·32768) = 0.002, its mean by 0.003 (one σ).
    assert noise.std().item() == pytest.approx(0.5, abs=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=0.015)
    np.testing.assert_array_equal(routing.expert_index.numpy(), oracles.choices(routing.noisy_logits.numpy(), 2))
    np.testing.assert_allclose(routing.probs.numpy(), oracles.softmax(logits.numpy()))


def test_jitter_multiplies_the_input_by_a_factor_within_its_bounds() -> None:
    router = Router(8, 8, torch.Generator().manual_seed(0)).requires_grad_(False)
    router.weight.copy_(torch.eye(8))
    x = 1 + torch.rand(500, 8, generator=torch.Generator().manual_seed(1))
    factor = router(x, 0.25, torch.Generator().manual_seed(2)) / x
    # 4000 draws from U(0.75, 1.25): the extremes come within 0.01 of the bounds, the mean has σ 0.0023.
    assert 0.75 <= factor.min() < 0.76
    assert 1.24 < factor.max() <= 1.25 + 1e-6
    assert factor.mean().item() == pytest.approx(1, abs=0.01)


def test_jitter_stays_out_of_evaluation_and_acts_in_training() -> None:
    config = RunConfig(router_noise="jitter", noise_std=0.3)
    moe = MoE(config, 32, torch.Generator().manual_seed(0))
    x = torch.randn(40, 32, generator=torch.Generator().manual_seed(1))
    plain = x @ moe.router.weight
    assert torch.equal(moe.route(x, config, None).logits, plain)
    assert not torch.allclose(moe.route(x, config, torch.Generator().manual_seed(2)).logits, plain)


def test_a_confident_router_chooses_by_its_logits_where_probabilities_underflow() -> None:
    # Beyond e^-104 float32 probabilities are all 0, and a top-k of them would be a lottery.
    logits = torch.tensor([[0.0, -200.0, -150.0, -300.0]])
    assert route(logits, RunConfig(num_experts=4, top_k=3), None).expert_index.tolist() == [[0, 2, 1]]


def test_capacity_takes_the_factor_as_it_is_written() -> None:
    # 1.1 · 800 / 8 = 110 exactly; in binary floating point it is a hair more.
    assert expert_capacity(tokens=800, num_experts=8, top_k=1, capacity_factor=1.1) == 110
