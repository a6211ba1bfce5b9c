"""Softmax and sigmoid scores: by hand, against NumPy, and against the router of transformers' DeepSeek-V3."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

from moe_sim import RunConfig, losses
from moe_sim.router.balancing import METHODS
from moe_sim.router.routing import route
from moe_sim.router.scores import probabilities_of, scores_of

SIGMOID = RunConfig(score_function="sigmoid", top_k=2)
shapes = st.tuples(st.integers(1, 20), st.integers(2, 9), st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 30.0]))


def drawn(shape: tuple[int, int, int, float]) -> np.ndarray:
    tokens, num_experts, seed, scale = shape
    return scale * np.random.default_rng(seed).normal(size=(tokens, num_experts))


@given(shape=shapes)
def test_sigmoid_scores_and_their_probabilities_are_as_defined(shape: tuple[int, int, int, float]) -> None:
    logits = drawn(shape)
    scores = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(scores_of(torch.from_numpy(logits), "sigmoid").numpy(), scores, rtol=1e-5)
    probabilities = probabilities_of(torch.from_numpy(logits), "sigmoid").numpy()
    np.testing.assert_allclose(probabilities, scores / scores.sum(1, keepdims=True), rtol=1e-5)


@given(shape=shapes)
def test_softmax_scores_are_probabilities_already(shape: tuple[int, int, int, float]) -> None:
    logits = torch.from_numpy(drawn(shape))
    expected = logits.exp() / logits.exp().sum(1, keepdim=True)
    for made in (scores_of(logits, "softmax"), probabilities_of(logits, "softmax")):
        np.testing.assert_allclose(made.numpy(), expected.numpy(), rtol=1e-5)


def test_the_router_cannot_lower_the_loss_by_shrinking_all_scores() -> None:
    # By hand: two experts, even choices, all scores e^−50: P is (1/2, 1/2) nevertheless, and the loss 2 · (1/4 + 1/4).
    for logit in (-50.0, -200.0, 3.0):
        logits = torch.full((4, 2), logit)
        probs = probabilities_of(logits, "sigmoid")
        loss = losses.load_balancing_loss(router_probs=probs, expert_index=torch.tensor([[0], [1], [0], [1]]))
        assert loss.item() == pytest.approx(1.0, abs=1e-6)


def test_combine_weights_are_the_scores_or_their_shares_among_the_chosen() -> None:
    # σ(ln 3) = 3/4, σ(0) = 1/2, σ(−ln 3) = 1/4.
    logits = torch.tensor([[np.log(3.0), -np.log(3.0), 0.0]])
    assert route(logits, SIGMOID).combine_weights.tolist() == [pytest.approx([0.75, 0.5])]
    shares = route(logits, SIGMOID.replace(renormalize=True)).combine_weights
    assert shares.tolist() == [pytest.approx([0.6, 0.4])]
    tiny = route(logits - 300, SIGMOID.replace(renormalize=True)).combine_weights
    assert tiny.tolist() == [pytest.approx([3**2 / (3**2 + 3), 0.25])]  # ratios of e^−300: 3 to 1


def test_the_gradient_of_a_sigmoid_score_reaches_its_own_logit_alone() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    route(logits, SIGMOID).combine_weights[0, 0].backward()
    score = 1 / (1 + np.exp(-2.0))
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), [[score * (1 - score), 0, 0]], rtol=1e-6)


@given(seed=st.integers(0, 10_000), top_k=st.integers(1, 4), normalized=st.booleans())
def test_deepseek_v3s_router_chooses_the_same_experts_with_the_same_weights(
    seed: int, top_k: int, normalized: bool
) -> None:
    normalized = normalized and top_k > 1
    generator = torch.Generator().manual_seed(seed)
    theirs = DeepseekV3TopkRouter(
        DeepseekV3Config(
            hidden_size=16, n_routed_experts=8, num_experts_per_tok=top_k, n_group=1, topk_group=1,
            norm_topk_prob=normalized, routed_scaling_factor=1.0,
        )
    )  # fmt: skip
    theirs.requires_grad_(False)
    torch.nn.init.normal_(theirs.weight, generator=generator)
    theirs.e_score_correction_bias.copy_(0.2 * torch.randn(8, generator=generator))
    x = torch.randn(40, 16, generator=generator)
    logits, weights, index = theirs(x)

    mechanism = METHODS["bias"](8)
    mechanism.score_function = "sigmoid"
    mechanism.bias = theirs.e_score_correction_bias
    config = RunConfig(score_function="sigmoid", balancing="bias", top_k=top_k, renormalize=normalized)
    ours = route(logits, config, mechanism.select)
    by_expert = torch.zeros(2, 40, 8)
    for table, own_index, own_weights in zip(
        by_expert, (index, ours.expert_index), (weights, ours.combine_weights), strict=True
    ):
        table.scatter_(1, own_index, own_weights)
    np.testing.assert_allclose(by_expert[1].detach().numpy(), by_expert[0].detach().numpy(), atol=1e-6)
    assert ((by_expert > 0).sum(2) == top_k).all()
