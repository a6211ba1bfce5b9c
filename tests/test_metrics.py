"""Load statistics: values by hand, ∞ without warnings (warnings are errors), and any number of leading axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from moe_sim import metrics
from tests.support import oracles

SCALARS = (
    metrics.imbalance_ratio,
    metrics.max_violation,
    metrics.coefficient_of_variation,
    metrics.normalized_entropy,
    metrics.dead_experts,
    metrics.parallel_efficiency,
)
SKEWED = [0.5, 0.3, 0.2, 0.0]


@st.composite
def counts(draw: st.DrawFn) -> np.ndarray:
    """The number of pairs of each of 2 to 64 experts; at least one pair in total."""
    numbers = draw(hnp.arrays(np.int64, st.integers(2, 64), elements=st.integers(0, 500)))
    numbers[draw(st.integers(0, len(numbers) - 1))] += 1
    return numbers


@pytest.mark.parametrize(
    ("metric", "balanced"),
    list(zip(SCALARS, (1, 0, 0, 1, 0, 1), strict=True)),
    ids=lambda item: getattr(item, "__name__", None),
)
@pytest.mark.parametrize("num_experts", [2, 3, 8, 64])
def test_perfect_balance_gives_the_balanced_value(metric: Callable, balanced: float, num_experts: int) -> None:
    assert metric(np.full(num_experts, 1 / num_experts)) == pytest.approx(balanced, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (metrics.imbalance_ratio, math.inf),  # the last expert got nothing
        (metrics.max_violation, 1.0),  # 0.5 · 4 − 1
        # deviations from 0.25: 0.25, 0.05, −0.05, −0.25; mean square (0.0625 + 0.0025) · 2 / 4 = 0.0325;
        # √0.0325 / 0.25 = 0.180278 / 0.25 = 0.721110
        (metrics.coefficient_of_variation, 0.721110),
        # 0.5·0.693147 + 0.3·1.203973 + 0.2·1.609438 = 1.029653; / ln 4 = 1.386294 → 0.742738
        (metrics.normalized_entropy, 0.742738),
        (metrics.dead_experts, 1),
        (metrics.parallel_efficiency, 0.5),  # 0.25 / 0.5
    ],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_a_skewed_load_has_the_value_computed_by_hand(metric: Callable, expected: float) -> None:
    assert metric(SKEWED) == pytest.approx(expected, abs=1e-6)


def test_the_imbalance_ratio_is_the_largest_over_the_smallest_load() -> None:
    # 0.6 / 0.1
    assert metrics.imbalance_ratio([0.6, 0.3, 0.1]) == pytest.approx(6)


def test_an_expert_that_got_nothing_makes_the_ratio_infinite() -> None:
    assert metrics.imbalance_ratio([1.0, 0.0]) == math.inf
    assert metrics.imbalance_ratio([[0.9, 0.1], [1.0, 0.0]]).tolist() == [pytest.approx(9), math.inf]


def test_a_single_busy_expert_gives_the_extreme_values() -> None:
    load = np.eye(8)[3]
    assert metrics.max_violation(load) == 7
    assert metrics.coefficient_of_variation(load) == pytest.approx(math.sqrt(7))
    assert metrics.normalized_entropy(load) == 0
    assert metrics.dead_experts(load) == 7
    assert metrics.parallel_efficiency(load) == pytest.approx(1 / 8)


def test_an_expert_is_dead_below_a_tenth_of_the_fair_share() -> None:
    # E = 4: 0.1 / 4 = 0.025. 0.0249 is dead, 0.0251 is not; with threshold 1 all below 0.25 are.
    load = [0.0249, 0.0251, 0.05, 0.9]
    assert metrics.dead_experts(load) == 1
    assert metrics.dead_experts(load, threshold=1.0) == 3


def test_two_choices_per_token_do_not_change_the_balanced_values() -> None:
    # Loads are shares of the T·K pairs: top-2 of 4 experts in turn is (1/4, 1/4, 1/4, 1/4), not (1/2, …).
    chosen = np.array([[t % 4, (t + 1) % 4] for t in range(12)])
    load = oracles.load(chosen, 4)
    assert load.sum() == pytest.approx(1)
    assert metrics.imbalance_ratio(load) == 1
    assert metrics.max_violation(load) == 0
    # All tokens on the same two of four: efficiency 0.25 / 0.5, the highest load being 1/K.
    assert metrics.parallel_efficiency(oracles.load(np.tile([0, 1], (12, 1)), 4)) == 0.5


@given(counts=counts())
def test_every_metric_equals_its_definition(counts: np.ndarray) -> None:
    load = counts / counts.sum()
    num_experts, mean = len(load), 1 / len(load)
    ratio = max(load) / min(load) if min(load) > 0 else math.inf
    assert metrics.imbalance_ratio(load) == pytest.approx(ratio)
    assert metrics.max_violation(load) == pytest.approx(max(load) * num_experts - 1)
    assert metrics.coefficient_of_variation(load) == pytest.approx(math.sqrt(oracles.squared_variation(load)), abs=1e-7)
    assert metrics.normalized_entropy(load) == pytest.approx(oracles.entropy(load) / math.log(num_experts), abs=1e-12)
    assert metrics.dead_experts(load) == sum(10 * share * num_experts < 1 for share in load)
    assert metrics.parallel_efficiency(load) == pytest.approx(mean / max(load))


@given(counts=counts())
def test_efficiency_and_max_violation_determine_each_other(counts: np.ndarray) -> None:
    load = counts / counts.sum()
    assert metrics.parallel_efficiency(load) == pytest.approx(1 / (1 + metrics.max_violation(load)))


@pytest.mark.parametrize("metric", SCALARS, ids=lambda metric: metric.__name__)
def test_leading_axes_are_kept(metric: Callable) -> None:
    loads = np.random.default_rng(0).dirichlet(np.ones(5), size=(3, 4))
    loads[1, 2] = [1, 0, 0, 0, 0]
    values = metric(loads)
    assert values.shape == (3, 4)
    assert [[metric(load) for load in row] for row in loads] == values.tolist()


def test_groups_with_an_expert_of_their_own_are_fully_specialized() -> None:
    assert metrics.normalized_mutual_information([[10, 0, 0], [0, 30, 0], [0, 0, 5]]) == pytest.approx(1)


def test_groups_spread_equally_over_the_experts_are_not_specialized() -> None:
    assert metrics.normalized_mutual_information([[10, 20], [30, 60]]) == pytest.approx(0, abs=1e-12)


def test_a_single_group_has_no_specialization() -> None:
    assert metrics.normalized_mutual_information([[3, 4, 5]]) == 0


def test_two_groups_sharing_one_of_two_experts_are_half_specialized_by_hand() -> None:
    # Shares [[1/2, 0], [1/4, 1/4]]: groups (1/2, 1/2), experts (3/4, 1/4).
    # H(group) = ln 2 = 0.693147, H(expert) = 0.562335, H(joint) = 1.039721 → I = 0.215762; / 0.693147 = 0.311278
    assert metrics.normalized_mutual_information([[2, 0], [1, 1]]) == pytest.approx(0.311278, abs=1e-6)


@given(joint=hnp.arrays(np.int64, st.tuples(st.integers(2, 12), st.integers(2, 16)), elements=st.integers(0, 50)))
def test_specialization_equals_its_definition_and_lies_between_0_and_1(joint: np.ndarray) -> None:
    joint[0, 0] += 1
    joint[1, 1] += 1
    value = metrics.normalized_mutual_information(joint)
    assert value == pytest.approx(oracles.specialization(joint), abs=1e-9)
    assert -1e-12 <= value <= 1 + 1e-12


def test_specialization_keeps_leading_axes() -> None:
    joints = np.random.default_rng(1).integers(1, 9, size=(6, 3, 4))
    values = metrics.normalized_mutual_information(joints)
    np.testing.assert_allclose(values, [oracles.specialization(joint) for joint in joints])


# Invalid and unusual input


@pytest.mark.parametrize("metric", SCALARS, ids=lambda metric: metric.__name__)
@pytest.mark.parametrize(
    "load",
    [[100, 100, 0, 1], [0.5, 0.7, -0.2, 0], [0, 0, 0, 0], [[0.5, 0.5], [0.9, 0.9]], [[math.nan, 0.5], [3, 4]]],
    ids=["counts", "negative", "nothing", "one row of two", "beside NaN"],
)
def test_what_is_no_load_is_rejected(metric: Callable, load: list[float]) -> None:
    with pytest.raises(ValueError, match="shares of sum 1"):
        metric(load)


@pytest.mark.parametrize("metric", SCALARS, ids=lambda metric: metric.__name__)
@pytest.mark.parametrize("load", [1.0, [], np.zeros((3, 0))], ids=["a number", "nothing", "no experts"])
def test_a_load_without_experts_is_rejected(metric: Callable, load: object) -> None:
    with pytest.raises(ValueError, match="at least one expert"):
        metric(load)


@pytest.mark.parametrize("metric", SCALARS, ids=lambda metric: metric.__name__)
def test_a_load_with_nan_has_the_metric_nan_and_others_keep_theirs(metric: Callable) -> None:
    load = [[math.nan, 0.5, 0.5, 0.0], SKEWED]
    if metric is metrics.dead_experts:
        with pytest.raises(ValueError, match="NaN"):
            metric(load)
    else:
        assert np.isnan(metric(load)).tolist() == [True, False]
        assert metric(load)[1] == metric(SKEWED)


@pytest.mark.parametrize("metric", SCALARS, ids=lambda metric: metric.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_tensor_of_any_type_and_with_a_gradient_is_a_load(metric: Callable, dtype: torch.dtype) -> None:
    # These shares are exact in every type.
    load = [0.5, 0.25, 0.125, 0.125]
    assert metric(torch.tensor(load, dtype=dtype, requires_grad=True)) == metric(load)


def test_shares_that_bfloat16_rounds_are_a_load() -> None:
    # 1/3 becomes 0.333984, three of them 1.001953.
    assert metrics.normalized_entropy(torch.full((3,), 1 / 3, dtype=torch.bfloat16)) == pytest.approx(1, abs=0.01)


def test_the_metrics_of_no_loads_are_empty() -> None:
    assert [metric(np.zeros((0, 4))).shape for metric in SCALARS] == [(0,)] * len(SCALARS)
    assert metrics.normalized_mutual_information(np.zeros((0, 3, 4))).shape == (0,)


def test_the_entropy_of_one_expert_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least two experts"):
        metrics.normalized_entropy([1.0])


@pytest.mark.parametrize(
    "joint", [[[0, 0], [0, 0]], [[3, -1], [1, 1]], [1, 2], 3], ids=["nothing", "negative", "one axis", "a number"]
)
def test_what_is_no_joint_distribution_is_rejected(joint: object) -> None:
    with pytest.raises(ValueError, match="joint must be"):
        metrics.normalized_mutual_information(joint)
