"""The losses against arithmetic by hand and against the oracles, and the direction of their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import losses
from tests.support import oracles

CONVENTIONS = ("per_choice", "first_choice", "huggingface")


def routed(seed: int, tokens: int, num_experts: int, top_k: int, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    """Random logits, their probabilities and the resulting choices."""
    logits = scale * np.random.default_rng(seed).normal(size=(tokens, num_experts))
    probs = oracles.softmax(logits)
    return logits, probs, oracles.choices(logits, top_k)


def balance(probs: np.ndarray, chosen: np.ndarray, convention: str = "per_choice") -> float:
    return losses.load_balancing_loss(
        router_probs=torch.as_tensor(probs), expert_index=torch.as_tensor(chosen), convention=convention
    ).item()


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Seed, tokens, experts and choices."""
    num_experts = draw(st.integers(2, 16))
    return (
        draw(st.integers(0, 10_000)),
        draw(st.integers(1, 40)),
        num_experts,
        draw(st.integers(1, min(4, num_experts))),
    )


def test_the_load_balancing_loss_can_be_below_one() -> None:
    # f = (0.6, 0.4): 3 of 5 tokens choose expert 0. P = (0.31, 0.69).
    # 2 · (0.6 · 0.31 + 0.4 · 0.69) = 2 · (0.186 + 0.276) = 0.924
    probs = np.tile([0.31, 0.69], (5, 1))
    chosen = np.array([[0], [0], [0], [1], [1]])
    assert balance(probs, chosen) == pytest.approx(0.924)


def test_a_loss_near_one_does_not_prove_balance() -> None:
    # 998 of 1000 tokens prefer expert 0, by a logit of 0.0046 only: p = e^0.0046 / (e^0.0046 + 7) = 0.125504,
    # the others 0.124928. P_0 = 0.998 · 0.125504 + 0.002 · 0.124928 = 0.125503, P_1 = 0.124929.
    # 8 · (0.998 · 0.125503 + 0.002 · 0.124929) = 8 · 0.125502 = 1.0040
    logits = np.zeros((1000, 8))
    logits[:998, 0] = 0.0046
    logits[998:, 1] = 0.0046
    chosen = oracles.choices(logits, 1)
    assert oracles.load(chosen, 8)[0] == 0.998
    assert balance(oracles.softmax(logits), chosen) == pytest.approx(1.004, abs=1e-4)


@pytest.mark.parametrize(("convention", "expected"), [("per_choice", 1), ("first_choice", 1), ("huggingface", 2)])
def test_balanced_top_2_routing_has_the_value_of_its_convention(convention: str, expected: float) -> None:
    # Eight tokens, token t on experts t and t+1 (mod 8): every expert is once a first and once a second choice.
    # Choices / (T·K) = 2/16, first choices / T = 1/8, all choices / T = 2/8; P = 1/8; 8 · 8 · f · 1/8 = 8 f.
    chosen = np.array([[t, (t + 1) % 8] for t in range(8)])
    assert balance(np.full((8, 8), 1 / 8), chosen, convention) == pytest.approx(expected)


@pytest.mark.parametrize(("convention", "expected"), [("per_choice", 4), ("first_choice", 4), ("huggingface", 8)])
def test_collapse_onto_two_experts_has_the_value_of_its_convention(convention: str, expected: float) -> None:
    # P = 1/2 on experts 0 and 1. per_choice: f = (1/2, 1/2), 8 · (1/4 + 1/4) = 4. first_choice: f = (1, 0),
    # 8 · 1/2 = 4. huggingface: f = (1, 1), 8 · (1/2 + 1/2) = 8.
    probs = np.tile([0.5, 0.5, 0, 0, 0, 0, 0, 0], (10, 1))
    chosen = np.tile([0, 1], (10, 1))
    assert balance(probs, chosen, convention) == pytest.approx(expected)


@given(shape=shapes(), convention=st.sampled_from(CONVENTIONS))
def test_the_load_balancing_loss_equals_its_definition(shape: tuple[int, int, int, int], convention: str) -> None:
    _, probs, chosen = routed(*shape)
    expected = oracles.load_balancing_loss(probs, chosen, convention)
    assert balance(probs.astype(np.float32), chosen, convention) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("tokens", "num_experts", "top_k", "expected"),
    # The values of transformers 5.23.0 for these logits, from
    # transformers.models.mixtral.modeling_mixtral.load_balancing_loss_func((logits,), num_experts, top_k).
    [(64, 8, 2, 2.0956116), (48, 6, 1, 1.0871704), (100, 16, 4, 4.2021117)],
)
def test_the_huggingface_convention_gives_the_numbers_of_transformers(
    tokens: int, num_experts: int, top_k: int, expected: float
) -> None:
    logits = wavy_logits(tokens, num_experts)
    probs, chosen = oracles.softmax(logits), oracles.choices(logits, top_k)
    assert balance(probs, chosen, "huggingface") == pytest.approx(expected, rel=1e-6)
    assert oracles.load_balancing_loss(probs, chosen, "huggingface") == pytest.approx(expected, rel=1e-6)


def wavy_logits(tokens: int, num_experts: int) -> np.ndarray:
    """Uneven logits without ties and without random numbers."""
    t, i = np.arange(tokens)[:, None], np.arange(num_experts)[None, :]
    return 2 * np.sin(0.7 * t * (i + 1) + i) + 0.3 * np.cos(i * i)


@given(shape=shapes(), convention=st.sampled_from(CONVENTIONS))
def test_only_the_importance_carries_gradient_in_the_load_balancing_loss(
    shape: tuple[int, int, int, int], convention: str
) -> None:
    # L = E · Σ f_i · (Σ_t p_ti) / T with f constant, so ∂L/∂p_ti = E · f_i / T, the same for every token.
    _, probs, chosen = routed(*shape)
    tokens, num_experts = probs.shape
    leaf = torch.tensor(probs, requires_grad=True)
    losses.load_balancing_loss(
        router_probs=leaf, expert_index=torch.as_tensor(chosen), convention=convention
    ).backward()
    counted = chosen[:, :1] if convention == "first_choice" else chosen
    pairs = {"per_choice": chosen.size, "first_choice": tokens, "huggingface": tokens}[convention]
    load = oracles.load(counted, num_experts) * counted.size / pairs
    np.testing.assert_allclose(leaf.grad.numpy(), np.tile(num_experts * load / tokens, (tokens, 1)), rtol=1e-9)


def test_the_importance_loss_of_three_to_one_is_a_quarter() -> None:
    # Sums over 4 tokens: (3, 1); mean 2, population variance 1; CV² = 1/4 (the sample variance would give 1/2).
    probs = torch.tensor([[0.75, 0.25]] * 4)
    assert losses.importance_loss(router_probs=probs).item() == pytest.approx(0.25)


@given(shape=shapes())
def test_the_importance_loss_equals_its_definition(shape: tuple[int, int, int, int]) -> None:
    _, probs, _ = routed(*shape)
    loss = losses.importance_loss(router_probs=torch.tensor(probs, dtype=torch.float32)).item()
    assert loss == pytest.approx(oracles.squared_variation(probs.sum(0)), rel=1e-5, abs=1e-6)


def test_the_importance_loss_can_be_gamed_and_the_load_balancing_loss_notices() -> None:
    # p = (0.2509, 0.2497, 0.2497, 0.2497) looks uniform, yet every token goes to expert 0.
    probs = np.tile([0.2509, 0.2497, 0.2497, 0.2497], (100, 1))
    assert losses.importance_loss(router_probs=torch.as_tensor(probs)).item() < 1e-5
    leaf = torch.tensor(probs, requires_grad=True)
    losses.load_balancing_loss(router_probs=leaf, expert_index=torch.zeros(100, 1, dtype=torch.int64)).backward()
    # Only the overloaded expert is pushed: ∂L/∂p_t0 = 4 · 1 / 100.
    np.testing.assert_allclose(leaf.grad[0].numpy(), [0.04, 0, 0, 0])


def test_the_load_loss_of_one_certain_token_is_one() -> None:
    # Two experts, logits (10, 0), σ = 0.1: Φ(±100) = 1 and 0. Loads (1, 0): mean 1/2, variance 1/4, CV² = 1.
    logits = torch.tensor([[10.0, 0.0]])
    assert losses.load_loss(router_logits=logits, noisy_logits=logits, noise_std=0.1, top_k=1).item() == 1.0


@given(shape=shapes(), noise_std=st.floats(0.05, 3), learned=st.booleans())
def test_the_load_loss_equals_its_definition(shape: tuple[int, int, int, int], noise_std: float, learned: bool) -> None:
    seed, tokens, num_experts, top_k = shape
    top_k = min(top_k, num_experts - 1)
    logits, _, _ = routed(seed, tokens, num_experts, top_k)
    random = np.random.default_rng(seed + 1)
    std = noise_std * random.uniform(0.5, 2, size=logits.shape) if learned else noise_std
    noisy = logits + std * random.normal(size=logits.shape)
    loss = losses.load_loss(
        router_logits=torch.as_tensor(logits),
        noisy_logits=torch.as_tensor(noisy),
        noise_std=torch.as_tensor(std) if learned else noise_std,
        top_k=top_k,
    ).item()
    assert loss == pytest.approx(oracles.load_loss(logits, noisy, std, top_k), rel=1e-5, abs=1e-9)


def test_the_load_loss_of_two_tokens_by_hand() -> None:
    # Two experts, σ = 1, no noise drawn. Token 0: (1, 0) → Φ(±1) = 0.841345 and 0.158655. Token 1: (0, 0) → 1/2 each.
    # Sums (1.341345, 0.658655): mean 1, deviations ±0.341345, CV² = 0.116516.
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    loss = losses.load_loss(router_logits=logits, noisy_logits=logits, noise_std=1.0, top_k=1)
    assert loss.item() == pytest.approx(0.116516, abs=1e-6)


def test_the_load_loss_has_a_gradient_on_learned_noise() -> None:
    # More noise gives the idle expert a better chance: the gradient shows it for the leading and the trailing expert.
    logits = torch.tensor([[1.0, 0.0]] * 4)
    std = torch.full((4, 2), 0.5, requires_grad=True)
    losses.load_loss(router_logits=logits, noisy_logits=logits, noise_std=std, top_k=1).backward()
    assert (std.grad < 0).all()


def test_the_load_loss_pushes_the_router_of_an_overloaded_expert_down() -> None:
    logits = torch.tensor([[0.3, 0.0, 0.0, 0.0]] * 10, requires_grad=True)
    losses.load_loss(router_logits=logits, noisy_logits=logits.detach(), noise_std=0.25, top_k=1).backward()
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


def test_the_load_loss_is_zero_if_every_expert_is_chosen() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = losses.load_loss(router_logits=logits, noisy_logits=logits, noise_std=1.0, top_k=3)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("noise_std", [0.0, -1.0, float("nan")])
def test_the_load_loss_rejects_noise_that_is_not_positive(noise_std: float) -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="noise_std"):
        losses.load_loss(router_logits=logits, noisy_logits=logits, noise_std=noise_std, top_k=1)


@pytest.mark.parametrize(
    "noise_std", [torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), torch.tensor(0.0)], ids=["zeros", "negative", "0"]
)
def test_the_load_loss_rejects_a_standard_deviation_that_is_not_positive(noise_std: torch.Tensor) -> None:
    logits = torch.tensor([[1.0, 0.0]])
    with pytest.raises(ValueError, match="noise_std must be above 0"):
        losses.load_loss(router_logits=logits, noisy_logits=logits, noise_std=noise_std, top_k=1)


@pytest.mark.parametrize("learned", [False, True])
def test_the_load_loss_of_almost_no_noise_has_a_gradient_of_zero(learned: bool) -> None:
    # For σ → 0 the smooth load becomes the count: (1, 0), CV² = 1, and no small change of a logit changes it.
    logits = torch.tensor([[1.0, 0.0]], requires_grad=True)
    std = torch.full((1, 2), 1e-44) if learned else 1e-60
    loss = losses.load_loss(router_logits=logits, noisy_logits=logits, noise_std=std, top_k=1)
    loss.backward()
    assert loss.item() == 1
    assert logits.grad.tolist() == [[0.0, 0.0]]


def test_the_z_loss_of_zero_logits_is_the_squared_logarithm_of_the_number_of_experts() -> None:
    # logsumexp(0, 0, 0, 0) = ln 4 = 1.386294; squared 1.921812.
    assert losses.router_z_loss(router_logits=torch.zeros(7, 4)).item() == pytest.approx(1.921812, abs=1e-6)


@given(shape=shapes(), scale=st.floats(0.01, 10))
def test_the_z_loss_equals_its_definition(shape: tuple[int, int, int, int], scale: float) -> None:
    logits, _, _ = routed(*shape, scale=scale)
    loss = losses.router_z_loss(router_logits=torch.tensor(logits, dtype=torch.float32)).item()
    assert loss == pytest.approx(oracles.router_z_loss(logits), rel=1e-5, abs=1e-5)


def test_an_unknown_convention_is_rejected_by_name() -> None:
    with pytest.raises(ValueError, match="switch"):
        balance(np.full((2, 2), 0.5), np.array([[0], [1]]), "switch")


# Low precision

LOW = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", LOW)
def test_in_low_precision_half_of_the_tokens_is_counted_exactly(dtype: torch.dtype) -> None:
    # f = P = (1/2, 1/2): 2 · (1/4 + 1/4) = 1. bfloat16 has no 257.
    chosen = torch.arange(514)[:, None] % 2
    probs = torch.full((514, 2), 0.5, dtype=dtype, requires_grad=True)
    loss = losses.load_balancing_loss(router_probs=probs, expert_index=chosen)
    loss.backward()
    assert loss.item() == 1
    assert loss.dtype == torch.float32
    assert probs.grad.dtype == dtype


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("tokens", [2048, 131_072])
def test_in_low_precision_the_importance_of_many_tokens_does_not_overflow(tokens: int, dtype: torch.dtype) -> None:
    # As with 4 tokens: CV² of (3, 1) · T/4 is 1/4. The sums of an even router are equal.
    skewed = torch.tensor([0.75, 0.25], dtype=dtype).expand(tokens, 2)
    assert losses.importance_loss(router_probs=skewed).item() == 0.25
    assert losses.importance_loss(router_probs=torch.full((tokens, 8), 1 / 8, dtype=dtype)).item() == 0


@pytest.mark.parametrize("dtype", LOW)
def test_in_low_precision_the_load_loss_sums_many_tokens(dtype: torch.dtype) -> None:
    # Φ(±100) = 1 and 0: loads (T, 0), CV² = 1, as of one token.
    logits = torch.tensor([10.0, 0.0], dtype=dtype).expand(131_072, 2)
    std = torch.full_like(logits, 0.1)
    loss = losses.load_loss(router_logits=logits, noisy_logits=logits, noise_std=std, top_k=1)
    assert loss.item() == 1


def test_in_low_precision_the_z_loss_of_large_logits_does_not_overflow() -> None:
    # logsumexp(300, 0) = 300 + e^-300; 300² = 90,000 is above the largest float16, 65,504.
    logits = torch.tensor([[300.0, 0.0]], dtype=torch.float16)
    assert losses.router_z_loss(router_logits=logits).item() == 90_000


@given(shape=shapes(), convention=st.sampled_from(CONVENTIONS), dtype=st.sampled_from(LOW))
def test_in_low_precision_only_the_input_is_rounded(
    shape: tuple[int, int, int, int], convention: str, dtype: torch.dtype
) -> None:
    _, probs, chosen = routed(*shape)
    low = torch.tensor(probs).to(dtype)
    expected = oracles.load_balancing_loss(low.double().numpy(), chosen, convention)
    assert balance(low, chosen, convention) == pytest.approx(expected, rel=1e-5)
    expected = oracles.squared_variation(low.double().numpy().sum(0))
    assert losses.importance_loss(router_probs=low).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


# Invalid input

HALF = torch.full((4, 2), 0.5)
FIRST = torch.zeros(4, 1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("probs", "sentence"),
    [
        (torch.tensor([[4.0, 0.0, 0.0, 0.0]] * 4), "are these logits"),
        (torch.tensor([[2.0, -1.0]] * 4), "are these logits"),  # logits that sum to 1
        (torch.zeros(0, 2), "at least one token"),
        (torch.zeros(4, 0), "one expert"),
        (torch.full((1, 2, 4, 2), 0.5), r"not \(1, 2, 4, 2\)"),
        (torch.ones(4), r"not \(4,\)"),
        (torch.ones(4, 1, dtype=torch.int64), "floating-point"),
    ],
    ids=["logits", "negative", "no tokens", "no experts", "four axes", "one axis", "integers"],
)
def test_what_is_no_probabilities_is_rejected(probs: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        losses.load_balancing_loss(router_probs=probs, expert_index=FIRST)
    with pytest.raises(ValueError, match=sentence):
        losses.importance_loss(router_probs=probs)


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (torch.zeros(10, 1, dtype=torch.int64), r"the same 4 tokens .* not \(10, 1\)"),
        (torch.zeros(4, 0, dtype=torch.int64), r"not \(4, 0\)"),
        (torch.zeros(4, dtype=torch.int64), r"not \(4,\)"),
        (torch.full((4, 1), 2), "from 0 to 1, not from 2 to 2"),
        (torch.tensor([[0], [1], [-1], [0]]), "from 0 to 1, not from -1 to 1"),
        (torch.zeros(4, 1), "integers"),
        (torch.zeros(4, 1, dtype=torch.bool), "integers"),
    ],
    ids=["other tokens", "no choice", "one axis", "too large", "negative", "floats", "switches"],
)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_choices_that_are_no_experts_of_these_tokens_are_rejected(
    chosen: torch.Tensor, sentence: str, convention: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        losses.load_balancing_loss(router_probs=HALF, expert_index=chosen, convention=convention)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"top_k": 0}, "top_k must be from 1 to 2"),
        ({"top_k": 3}, "top_k must be from 1 to 2"),
        ({"noisy_logits": torch.zeros(3, 2)}, "one shape"),
        ({"noise_std": torch.ones(3, 2)}, r"noise_std must be one number or \(4, 2\)"),
        ({"noise_std": float("inf")}, "noise_std"),
        ({"router_logits": torch.zeros(4, 2, 1)}, "router_logits must be"),
        ({"noisy_logits": torch.zeros(0, 2)}, "noisy_logits must be"),
    ],
    ids=str,
)
def test_the_load_loss_rejects_invalid_input(change: dict[str, object], sentence: str) -> None:
    valid = dict(router_logits=torch.zeros(4, 2), noisy_logits=torch.zeros(4, 2), noise_std=1.0, top_k=1)
    with pytest.raises(ValueError, match=sentence):
        losses.load_loss(**{**valid, **change})


@pytest.mark.parametrize("logits", [torch.zeros(0, 2), torch.zeros(1, 2, 4, 2), torch.zeros(4)], ids=str)
def test_the_z_loss_rejects_what_are_no_logits(logits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="router_logits must be"):
        losses.router_z_loss(router_logits=logits)


def test_not_a_number_passes_through_so_that_a_run_can_report_that_it_diverged() -> None:
    nothing = torch.full((4, 2), float("nan"))
    found = [
        losses.load_balancing_loss(router_probs=nothing, expert_index=FIRST),
        losses.importance_loss(router_probs=nothing),
        losses.load_loss(router_logits=nothing, noisy_logits=nothing, noise_std=nothing, top_k=1),
        losses.router_z_loss(router_logits=nothing),
    ]
    assert all(torch.isnan(loss) for loss in found)
