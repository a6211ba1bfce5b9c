"""Expert selection, against plain Python and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_sim.router.selection import Selection, expert_choice, sinkhorn_scores, top_choices
from tests.support import oracles


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Seed, tokens, experts and choices."""
    num_experts = draw(st.integers(2, 24))
    return (
        draw(st.integers(0, 10_000)),
        draw(st.integers(1, 40)),
        num_experts,
        draw(st.integers(1, min(8, num_experts))),
    )


def normal(seed: int, tokens: int, num_experts: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, num_experts))


def experts_of_tokens(selection: Selection) -> list[list[int]]:
    """The experts of each token in the order of its slots."""
    assert selection.assigned is not None
    rows = zip(selection.expert_index.tolist(), selection.assigned.tolist(), strict=True)
    return [[expert for expert, present in zip(*row, strict=True) if present] for row in rows]


@given(shape=shapes())
def test_the_highest_scoring_experts_are_chosen_in_order(shape: tuple[int, int, int, int]) -> None:
    seed, tokens, num_experts, top_k = shape
    scores = normal(seed, tokens, num_experts)
    selection = top_choices(torch.from_numpy(scores), top_k)
    np.testing.assert_array_equal(selection.expert_index.numpy(), oracles.choices(scores, top_k))
    assert selection.expert_index.dtype == torch.int64
    assert selection.assigned is None


@pytest.mark.parametrize("top_k", [1, 2, 8])
def test_tied_experts_are_chosen_once_each(top_k: int) -> None:
    chosen = top_choices(torch.zeros(5, 8), top_k).expert_index
    assert all(len(set(row)) == top_k for row in chosen.tolist())


def test_a_tie_below_the_winner_does_not_affect_the_winner() -> None:
    first, second = top_choices(torch.tensor([[0.0, 0.0, 1.0, 0.0]]), 2).expert_index[0].tolist()
    assert first == 2
    assert second in (0, 1, 3)


@given(shape=shapes(), steps=st.sampled_from([2, 5, 1000]))
def test_each_expert_picks_the_tokens_with_the_highest_scores_for_it(
    shape: tuple[int, int, int, int], steps: int
) -> None:
    # With few distinct scores many tokens tie, and the earlier ones are picked.
    seed, tokens, num_experts, top_k = shape
    scores = np.random.default_rng(seed).integers(0, steps, size=(tokens, num_experts)) / steps
    selection = expert_choice(torch.from_numpy(scores), top_k)
    expected = oracles.expert_choice(scores, top_k)
    experts = experts_of_tokens(selection)
    assert [set(row) for row in experts] == [set(np.flatnonzero(row)) for row in expected]
    assert [len(row) for row in experts] == expected.sum(1).tolist()
    for token, row in enumerate(experts):
        assert scores[token, row].tolist() == sorted(scores[token, row], reverse=True)


@given(shape=shapes())
def test_expert_choice_gives_equal_loads_and_no_needless_slots(shape: tuple[int, int, int, int]) -> None:
    seed, tokens, num_experts, top_k = shape
    selection = expert_choice(torch.from_numpy(oracles.softmax(normal(seed, tokens, num_experts))), top_k)
    assert selection.assigned is not None
    counts = np.bincount(selection.expert_index[selection.assigned].numpy(), minlength=num_experts)
    assert set(counts) == {-(-tokens * top_k // num_experts)}
    # A token's experts come first, and at least one token needs the last slot.
    present = selection.assigned.int().numpy()
    assert (np.diff(present, axis=1) <= 0).all()
    assert present[:, -1].any()


def test_under_expert_choice_a_token_may_have_many_experts_or_none() -> None:
    # Two experts and four tokens, ⌈4 · 1 / 2⌉ = 2 picks each: both take tokens 1 and 3. Token 3 prefers expert 1.
    probs = torch.tensor([[0.3, 0.1], [0.9, 0.8], [0.2, 0.2], [0.6, 0.7]])
    selection = expert_choice(probs, 1)
    assert experts_of_tokens(selection) == [[], [0, 1], [], [1, 0]]
    assert selection.expert_index.shape == (4, 2)


def test_picks_are_rounded_up() -> None:
    # ⌈5 · 1 / 3⌉ = 2 picks each.
    assert sum(map(len, experts_of_tokens(expert_choice(torch.rand(5, 3), 1)))) == 6


@given(shape=shapes(), scale=st.floats(0, 8), rounds=st.sampled_from([1, 2, 20]))
def test_sinkhorn_scores_equal_their_definition(shape: tuple[int, int, int, int], scale: float, rounds: int) -> None:
    seed, tokens, num_experts, _ = shape
    logits = scale * normal(seed, tokens, num_experts)
    expected = oracles.sinkhorn(logits, rounds)
    np.testing.assert_allclose(sinkhorn_scores(torch.from_numpy(logits), rounds).numpy(), expected, rtol=1e-9)


def test_sinkhorn_runs_twenty_rounds_by_default() -> None:
    logits = normal(0, 10, 4)
    np.testing.assert_allclose(sinkhorn_scores(torch.from_numpy(logits)).numpy(), oracles.sinkhorn(logits), rtol=1e-9)


def test_one_round_of_sinkhorn_by_hand() -> None:
    # exp(z) = [[3, 1], [1, 1]]. Rows to 1/2: [[3/8, 1/8], [1/4, 1/4]]; the columns then have 5/8 and 3/8.
    # Columns to 1/2: · 4/5 and · 4/3 → [[3/10, 1/6], [1/5, 1/3]].
    scores = sinkhorn_scores(torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log(), iterations=1)
    np.testing.assert_allclose(scores.numpy(), [[3 / 10, 1 / 6], [1 / 5, 1 / 3]], rtol=1e-6)


@given(shape=shapes())
def test_sinkhorn_gives_every_expert_and_nearly_every_token_the_same_total(shape: tuple[int, int, int, int]) -> None:
    seed, tokens, num_experts, _ = shape
    scores = sinkhorn_scores(torch.from_numpy(normal(seed, tokens, num_experts))).numpy()
    np.testing.assert_allclose(scores.sum(0), 1 / num_experts, rtol=1e-12)
    # Measured on 3000 matrices of these sizes: a relative error of at most 4e-7.
    np.testing.assert_allclose(scores.sum(1), 1 / tokens, rtol=1e-4)


def test_sinkhorn_ignores_preferences_that_all_tokens_share() -> None:
    # Every token prefers expert 0; preferences relative to the other tokens decide.
    logits = np.array([[9.0, 1.0], [9.0, 3.0], [9.0, 5.0], [9.0, 7.0]])
    assert (oracles.choices(logits, 1) == 0).all()
    chosen = top_choices(sinkhorn_scores(torch.from_numpy(logits)), 1).expert_index
    assert chosen.ravel().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e3, 1e6, 1e30])
def test_sinkhorn_scores_of_a_very_confident_router_are_finite(scale: float, dtype: torch.dtype) -> None:
    logits = torch.from_numpy(scale * normal(0, 64, 8)).to(dtype)
    logits[:, 0] += scale
    scores = sinkhorn_scores(logits).numpy()
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(0), 1 / 8, rtol=1e-9)
