"""Capacity, seating and rerouting, against plain Python and by hand."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim.router.capacity import expert_capacity, reroute, seating_order, within_capacity
from tests.support import oracles


@dataclass(frozen=True)
class Crowd:
    """Tokens with their chosen experts, and the rule for seating them."""

    chosen: np.ndarray
    """(T, K), the chosen experts, distinct per token."""
    assigned: np.ndarray
    """(T, K) bool, False where a slot is empty."""
    logits: np.ndarray
    """(T, E)"""
    priority: np.ndarray | None
    capacity: int

    @property
    def order(self) -> np.ndarray:
        return seating_order(self.assigned, self.priority)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return oracles.seating(self.assigned, self.priority)

    def kept(self, capacity: int | None = None) -> np.ndarray:
        return within_capacity(self.chosen, self.order, self.logits.shape[1], capacity or self.capacity)

    def rerouted(self) -> tuple[np.ndarray, np.ndarray]:
        return reroute(self.chosen, self.kept(), self.order, self.logits, self.capacity)


@st.composite
def crowds(draw: st.DrawFn) -> Crowd:
    """Popular and unpopular experts, with or without empty slots, seated by position or a priority with many ties."""
    num_experts = draw(st.integers(2, 10))
    top_k = draw(st.integers(1, min(4, num_experts)))
    tokens = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    # A large spread between experts crowds the tokens onto few of them.
    logits = random.normal(size=(tokens, num_experts))
    logits += draw(st.sampled_from([0.0, 1.0, 4.0])) * random.normal(size=num_experts)
    by_token = draw(st.booleans())
    # Chosen by the token's own logits, or by unrelated ones.
    chosen = oracles.choices(logits if by_token else random.normal(size=logits.shape), top_k)
    assigned = np.ones(chosen.shape, dtype=bool)
    if draw(st.booleans()):
        assigned = np.arange(top_k) < random.integers(0, top_k + 1, size=tokens)[:, None]
    priority = random.integers(0, 8, size=chosen.shape) / 8 if draw(st.booleans()) else None
    fair = -(-tokens * top_k // num_experts)
    capacity = draw(st.sampled_from([1, max(1, fair // 2), fair, fair + 1, 2 * fair]))
    return Crowd(chosen, assigned, logits, priority, capacity)


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


def test_capacity_uses_the_factor_as_written() -> None:
    # 1.1 · 800 / 8 = 110 exactly; in binary floating point it is a hair more.
    assert expert_capacity(tokens=800, num_experts=8, top_k=1, capacity_factor=1.1) == 110


@pytest.mark.parametrize("name", ["tokens", "num_experts", "top_k", "capacity_factor"])
@pytest.mark.parametrize("value", [0, -1])
def test_capacity_rejects_values_that_are_not_positive(name: str, value: int) -> None:
    sizes = {"tokens": 256, "num_experts": 8, "top_k": 1, "capacity_factor": 1.0, name: value}
    with pytest.raises(ValueError, match="positive"):
        expert_capacity(**sizes)


def test_first_choices_are_seated_before_second_choices() -> None:
    # One seat at each expert. Token 1's first choice is expert 1, token 0's second choice is expert 1 too:
    # the first choice wins although its token comes later.
    chosen = np.array([[0, 1], [1, 0]])
    order = seating_order(np.ones((2, 2), dtype=bool))
    assert within_capacity(chosen, order, 2, 1).tolist() == [[True, False], [True, False]]


def test_the_highest_priorities_are_seated_first() -> None:
    order = seating_order(np.ones((3, 1), dtype=bool), np.array([[0.2], [0.9], [0.5]]))
    assert order.tolist() == [1, 2, 0]
    assert within_capacity(np.zeros((3, 1), dtype=np.int64), order, 2, 2).tolist() == [[False], [True], [True]]


def test_a_second_choice_of_high_priority_is_seated_before_a_first_choice_of_low_priority() -> None:
    # Both chose expert 1, which has one seat: token 0 as its second choice with 0.4, token 1 as its first with 0.3.
    chosen, priority = np.array([[0, 1], [1, 0]]), np.array([[0.5, 0.4], [0.3, 0.2]])
    order = seating_order(np.ones((2, 2), dtype=bool), priority)
    assert within_capacity(chosen, order, 2, 1).tolist() == [[True, True], [False, False]]


def test_an_empty_slot_takes_no_seat() -> None:
    # Token 0 has no expert, though its slot says 0.
    assigned = np.array([[False], [True], [True]])
    order = seating_order(assigned)
    assert order.tolist() == [1, 2]
    assert within_capacity(np.zeros((3, 1), dtype=np.int64), order, 2, 1).tolist() == [[False], [True], [False]]


@given(crowd=crowds())
def test_the_seating_order_equals_its_definition(crowd: Crowd) -> None:
    choice, token = np.divmod(crowd.order, len(crowd.chosen))
    assert list(zip(token.tolist(), choice.tolist(), strict=True)) == crowd.pairs


@given(crowd=crowds())
def test_seating_equals_seating_one_by_one(crowd: Crowd) -> None:
    kept = crowd.kept()
    np.testing.assert_array_equal(kept, oracles.within_capacity(crowd.chosen, crowd.capacity, crowd.pairs))
    for expert in range(crowd.logits.shape[1]):
        choosing = crowd.assigned & (crowd.chosen == expert)
        assert (kept & choosing).sum() == min(crowd.capacity, choosing.sum())


@given(crowd=crowds())
def test_a_larger_capacity_never_drops_what_a_smaller_one_kept(crowd: Crowd) -> None:
    assert not (crowd.kept() & ~crowd.kept(crowd.capacity + 1)).any()


def test_overflow_goes_to_the_next_best_expert_with_room() -> None:
    # One seat at each of three experts. Token 0 takes expert 0, token 1 its next-best, expert 1. Token 2 prefers
    # expert 1 to expert 2, but token 1 came first.
    logits = np.array([[3.0, 2.0, 1.0]] * 3)
    chosen = np.zeros((3, 1), dtype=np.int64)
    order = seating_order(np.ones((3, 1), dtype=bool))
    dispatch, placed = reroute(chosen, within_capacity(chosen, order, 3, 1), order, logits, 1)
    assert dispatch.ravel().tolist() == [0, 1, 2]
    assert placed.all()


def test_chosen_seats_are_taken_before_any_pair_is_rerouted() -> None:
    # Token 1 overflows at expert 0 and prefers expert 1 next; token 2, though later, chose expert 1.
    logits = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
    chosen = np.array([[0], [0], [1]])
    order = seating_order(np.ones((3, 1), dtype=bool))
    dispatch, placed = reroute(chosen, within_capacity(chosen, order, 3, 1), order, logits, 1)
    assert dispatch.ravel().tolist() == [0, 2, 1]
    assert placed.all()


def test_an_expert_does_not_serve_a_token_twice() -> None:
    # Two tokens, both with experts 0 and 1 of three, one seat each. Token 1 overflows twice; expert 2 takes its first
    # choice, and its second goes nowhere although expert 2, with a capacity of two, has room.
    logits = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    chosen = np.array([[0, 1], [0, 1], [0, 1]])
    order = seating_order(np.ones((3, 2), dtype=bool))
    dispatch, placed = reroute(chosen, within_capacity(chosen, order, 3, 2), order, logits, 2)
    assert dispatch.tolist() == [[0, 1], [0, 1], [2, 1]]
    assert placed.tolist() == [[True, True], [True, True], [True, False]]


@given(crowd=crowds())
def test_rerouting_equals_rerouting_one_by_one(crowd: Crowd) -> None:
    dispatch, placed = crowd.rerouted()
    expected_dispatch, expected_placed = oracles.reroute(crowd.chosen, crowd.capacity, crowd.pairs, crowd.logits)
    np.testing.assert_array_equal(placed, expected_placed)
    np.testing.assert_array_equal(dispatch, expected_dispatch)


@given(crowd=crowds())
def test_rerouting_moves_no_seated_pair_and_overfills_no_expert(crowd: Crowd) -> None:
    kept = crowd.kept()
    dispatch, placed = crowd.rerouted()
    assert not (kept & ~placed).any()
    np.testing.assert_array_equal(dispatch[kept], crowd.chosen[kept])
    assert not (placed & ~crowd.assigned).any()
    load = np.bincount(dispatch[placed], minlength=crowd.logits.shape[1])
    assert load.max(initial=0) <= crowd.capacity
    for row, present in zip(dispatch, placed, strict=True):
        assert len(set(row[present])) == present.sum()
    # A token with an unplaced pair is already served by every expert that has room.
    with_room = set(np.flatnonzero(load < crowd.capacity))
    for token, _ in zip(*np.nonzero(crowd.assigned & ~placed), strict=True):
        assert with_room <= set(dispatch[token][placed[token]])


@given(crowd=crowds())
def test_first_choices_are_placed_as_long_as_there_are_seats(crowd: Crowd) -> None:
    first = Crowd(crowd.chosen[:, :1], crowd.assigned[:, :1], crowd.logits, None, crowd.capacity)
    _, placed = first.rerouted()
    seats = crowd.capacity * crowd.logits.shape[1]
    assert placed.sum() == min(seats, first.assigned.sum())


def test_rerouting_does_not_change_its_inputs() -> None:
    chosen, logits = np.zeros((6, 1), dtype=np.int64), np.tile([2.0, 1.0], (6, 1))
    order = seating_order(np.ones((6, 1), dtype=bool))
    kept = within_capacity(chosen, order, 2, 3)
    _, placed = reroute(chosen, kept, order, logits, 3)
    assert placed.sum() == 6
    assert kept.sum() == 3
    assert not chosen.any()
