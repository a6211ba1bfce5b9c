"""The parts of the load-balancing loss: values worked out by hand, the gradient, and the figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_sim.charts import anatomy as charts
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.losses import importance_loss, load_balancing_loss
from moe_sim.teaching.loss_anatomy import EXAMPLES, Anatomy, contribution, dissect, resized


def example(name: str) -> Anatomy:
    return dissect(EXAMPLES[name].load, EXAMPLES[name].importance)


@st.composite
def shares(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draws f and P of up to 8 experts, each summing to 1."""
    count = draw(st.integers(2, 8))
    both = (draw(st.lists(st.floats(0.01, 1), min_size=count, max_size=count)) for _ in range(2))
    load, importance = (np.array(values) / sum(values) for values in both)
    return load, importance


def test_at_balance_the_loss_is_1_and_every_gradient_is_1() -> None:
    anatomy = example("balanced")
    assert anatomy.loss == 1
    np.testing.assert_array_equal(anatomy.gradient, 1)
    assert (anatomy.importance_loss, anatomy.load_cv_squared, anatomy.imbalance_ratio) == (0, 0, 1)


def test_the_loss_can_be_below_1() -> None:
    anatomy = example("below-one")
    np.testing.assert_allclose(anatomy.terms, [0.186, 0.276])
    assert anatomy.loss == pytest.approx(0.924)


def test_the_loss_can_be_near_1_while_one_expert_takes_all() -> None:
    anatomy = example("hidden-collapse")
    # 4 · (0.998·0.251 + 0.001·0.25 + 0.0005·0.2498 + 0.0005·0.2492)
    assert anatomy.loss == pytest.approx(1.00399, abs=5e-6)
    assert anatomy.gradient[0] == pytest.approx(3.992)
    assert anatomy.imbalance_ratio == pytest.approx(1996)


def test_the_variance_of_p_is_near_0_while_one_expert_has_all_the_load() -> None:
    anatomy = example("why-not-variance")
    # Deviations from the mean 0.250025 are 0.000975 and three times −0.000325.
    by_hand = (0.000975**2 + 3 * 0.000325**2) / 4 / 0.250025**2
    assert anatomy.importance_loss == pytest.approx(by_hand)
    assert 4e-6 < anatomy.importance_loss < 6e-6
    assert anatomy.load_cv_squared == pytest.approx(3)
    assert math.isinf(anatomy.imbalance_ratio)
    np.testing.assert_array_equal(anatomy.gradient, [4, 0, 0, 0])
    assert anatomy.loss == pytest.approx(4 * 0.251 / 1.0001)


def test_the_loss_of_a_collapse_with_a_certain_router_approaches_the_number_of_experts() -> None:
    # 4 · (0.97·0.91 + 3·0.01·0.03)
    assert example("collapsed").loss == pytest.approx(3.5344)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_sums_to_1_and_explains_its_point(name: str) -> None:
    one = EXAMPLES[name]
    assert sum(one.load) == pytest.approx(1)
    assert sum(one.importance) == pytest.approx(1, abs=2e-4)
    assert one.title
    assert one.lesson.endswith(".")
    # The sliders show hundredths of a percent.
    for value in one.load + one.importance:
        assert round(100 * value, 2) == pytest.approx(100 * value)


@given(both=shares())
def test_the_gradient_on_p_matches_finite_differences_of_the_formula(both: tuple[np.ndarray, np.ndarray]) -> None:
    load, importance = both
    anatomy, step = dissect(load, importance), 1e-6
    for expert in range(len(load)):
        more, less = importance.copy(), importance.copy()
        more[expert] += step
        less[expert] -= step
        slope = len(load) * ((load * more).sum() - (load * less).sum()) / (2 * step)
        assert anatomy.gradient[expert] == pytest.approx(slope, abs=1e-6)
    assert len(load) * anatomy.terms.sum() == pytest.approx(anatomy.loss)
    assert (importance * anatomy.gradient).sum() == pytest.approx(anatomy.loss)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_it_agrees_with_the_losses_on_real_tokens(top_k: int) -> None:
    generator = torch.Generator().manual_seed(top_k)
    probs = torch.randn(50, 5, generator=generator, dtype=torch.float64).softmax(1)
    chosen = probs.topk(top_k, 1).indices
    load = np.bincount(chosen.flatten().numpy(), minlength=5) / chosen.numel()
    importance = probs.mean(0).requires_grad_()
    everyone = importance.expand(50, 5)  # identical tokens all have the same P
    anatomy = dissect(load, probs.mean(0).numpy(), top_k)
    loss = load_balancing_loss(router_probs=everyone, expert_index=chosen)
    huggingface = load_balancing_loss(router_probs=probs, expert_index=chosen, convention="huggingface")
    assert anatomy.loss == pytest.approx(loss.item())
    assert anatomy.huggingface == pytest.approx(huggingface.item())
    assert anatomy.huggingface == pytest.approx(top_k * anatomy.loss)
    assert anatomy.importance_loss == pytest.approx(importance_loss(router_probs=probs).item())
    (gradient,) = torch.autograd.grad(loss, importance)
    np.testing.assert_allclose(anatomy.gradient, gradient.numpy())


@given(both=shares(), scale=st.floats(0.01, 100))
def test_only_proportions_matter(both: tuple[np.ndarray, np.ndarray], scale: float) -> None:
    load, importance = both
    one, other = dissect(load, importance), dissect(scale * load, importance / scale)
    assert other.loss == pytest.approx(one.loss)
    np.testing.assert_allclose(other.gradient, one.gradient)


@pytest.mark.parametrize(
    ("load", "importance", "message"),
    [
        ([1], [1], "at least 2"),
        ([0.5, 0.5], [0.2, 0.3, 0.5], "same number"),
        ([0, 0], [0.5, 0.5], "not all 0"),
        ([0.5, 0.5], [0.0, 0.0], "not all 0"),
        ([-0.5, 1.5], [0.5, 0.5], "not negative"),
        ([0.5, math.nan], [0.5, 0.5], "finite"),
        ([0.5, 0.5], [math.inf, 0.5], "finite"),
        ([[0.5, 0.5]], [[0.5, 0.5]], "shares"),
        ([], [], "shares"),
    ],
)
def test_invalid_shares_are_refused_with_a_clear_message(load: list, importance: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dissect(load, importance)


def test_the_contribution_is_the_weighted_loss_over_the_total() -> None:
    # 0.01 / 2.01
    assert contribution(task_loss=2.0, balance_loss=1.0, alpha=0.01) == pytest.approx(0.004975124)
    assert contribution(task_loss=2.0, balance_loss=2.0, alpha=1.0) == 0.5
    assert contribution(task_loss=2.0, balance_loss=0.0, alpha=1.0) == 0
    assert contribution(task_loss=0.0, balance_loss=0.0, alpha=0.01) == 0


@pytest.mark.parametrize("theme", PALETTES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_figures_show_the_numbers_in_both_themes(name: str, theme: Theme) -> None:
    load, importance = np.array(EXAMPLES[name].load), np.array(EXAMPLES[name].importance)
    anatomy, palette = dissect(load, importance), PALETTES[theme]
    both, parts, push = (
        charts.shares(load, importance, theme),
        charts.terms(anatomy, theme),
        charts.gradient(anatomy, theme),
    )
    np.testing.assert_allclose([bar.y for bar in both.data], [100 * load, 100 * importance])
    assert sum(parts.data[0].y) == pytest.approx(anatomy.loss)
    np.testing.assert_array_equal(push.data[0].y, anatomy.gradient)
    assert (both.layout.shapes[0].y0, push.layout.shapes[0].y0) == (100 / len(load), 1)
    assert [bar.marker.color for bar in (*both.data, *push.data)] == [palette.ink, palette.accent, palette.danger]
    assert all(figure.to_json() for figure in (both, parts, push))


@pytest.mark.parametrize(
    ("before", "count", "after"),
    [
        ([25, 25, 25, 25], 8, [0.125] * 8),
        ([0.125] * 8, 4, [0.25] * 4),
        ([70, 10, 20], 3, [0.7, 0.1, 0.2]),
        ([70, 10, 20], 4, [0.525, 0.075, 0.15, 0.25]),
        ([60, 20, 20], 2, [0.75, 0.25]),
        ([0, 0, 5, 5], 2, [0.5, 0.5]),
    ],
)
def test_shares_follow_the_number_of_experts(before: list, count: int, after: list) -> None:
    np.testing.assert_allclose(resized(before, count), after)
