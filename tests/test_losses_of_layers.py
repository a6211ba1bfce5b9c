"""Losses of several layers, and padding: by hand, against transformers, and against a plain loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from moe_sim import losses

CONVENTIONS = losses.CONVENTIONS


def routed(layers: int, tokens: int, num_experts: int, top_k: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, probabilities and choices of some layers."""
    logits = 2 * torch.randn(layers, tokens, num_experts, generator=torch.Generator().manual_seed(seed))
    probs = logits.softmax(-1)
    return logits, probs, probs.topk(top_k, dim=-1).indices


shapes = st.tuples(
    st.integers(1, 5), st.integers(2, 30), st.integers(2, 9), st.integers(1, 2), st.integers(0, 10_000)
)  # fmt: skip


def test_layers_that_collapse_onto_different_experts_look_balanced_when_lumped_together() -> None:
    probs = torch.zeros(8, 20, 8)
    index = torch.arange(8).view(8, 1, 1).expand(8, 20, 1)
    probs.scatter_(2, index, 1.0)
    assert losses.load_balancing_loss(router_probs=probs, expert_index=index, convention="huggingface") == 1.0
    assert losses.load_balancing_loss(router_probs=probs, expert_index=index) == 8.0
    each = [losses.load_balancing_loss(router_probs=p, expert_index=i) for p, i in zip(probs, index, strict=True)]
    assert each == [8.0] * 8


@given(shape=shapes)
def test_lumped_layers_have_the_loss_of_transformers(shape: tuple[int, int, int, int, int]) -> None:
    logits, probs, index = routed(*shape)
    ours = losses.load_balancing_loss(router_probs=probs, expert_index=index, convention="huggingface")
    theirs = load_balancing_loss_func(tuple(logits), shape[2], shape[3])
    assert ours.item() == pytest.approx(float(theirs), abs=1e-5)


@given(shape=shapes, padded=st.integers(0, 29))
def test_padding_counts_in_neither_f_nor_p_as_in_transformers(
    shape: tuple[int, int, int, int, int], padded: int
) -> None:  # fmt: skip
    logits, probs, index = routed(*shape)
    mask = torch.arange(shape[1]) >= min(padded, shape[1] - 1)
    ours = losses.load_balancing_loss(
        router_probs=probs, expert_index=index, convention="huggingface", token_mask=mask
    )  # fmt: skip
    theirs = load_balancing_loss_func(tuple(logits), shape[2], shape[3], attention_mask=mask[None].long())
    assert ours.item() == pytest.approx(float(theirs), abs=1e-5)


@given(shape=shapes, convention=st.sampled_from(["per_choice", "first_choice"]))
def test_otherwise_the_loss_of_layers_is_their_mean(shape: tuple[int, int, int, int, int], convention: str) -> None:
    _, probs, index = routed(*shape)
    mask = torch.rand(shape[1], generator=torch.Generator().manual_seed(shape[4])) < 0.5
    mask[0] = True
    each = [
        losses.load_balancing_loss(router_probs=p[mask], expert_index=i[mask], convention=convention)  # type: ignore[arg-type]
        for p, i in zip(probs, index, strict=True)
    ]
    whole = losses.load_balancing_loss(
        router_probs=probs, expert_index=index, convention=convention, token_mask=mask,  # type: ignore[arg-type]
    )  # fmt: skip
    torch.testing.assert_close(whole, torch.stack(each).mean(), atol=1e-5, rtol=0)


@given(shape=shapes)
def test_the_z_loss_of_layers_is_their_mean_over_real_tokens(shape: tuple[int, int, int, int, int]) -> None:
    logits, _, _ = routed(*shape)
    mask = torch.arange(shape[1]) % 2 == 0
    expected = torch.stack([one[mask].exp().sum(1).log().square().mean() for one in logits]).mean()
    ours = losses.router_z_loss(router_logits=logits, token_mask=mask)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_contributions_of_layers_have_the_loss_as_their_mean_and_its_gradient(convention: str) -> None:
    logits, _, _ = routed(3, 20, 5, 2, 0)
    leaf = logits.requires_grad_()
    probs = leaf.softmax(-1)
    index = probs.topk(2, dim=-1).indices
    whole = losses.load_balancing_loss(router_probs=probs, expert_index=index, convention=convention)  # type: ignore[arg-type]
    if convention == "huggingface":
        shares = losses.choice_shares(probs, index, convention).mean(0)
        parts = list(losses.weighted_load(shares, probs))
    else:
        parts = list(losses.load_balancing_each(probs, index, convention))  # type: ignore[arg-type]
    mean = torch.stack(parts).mean()
    torch.testing.assert_close(mean, whole)
    expected, actual = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (whole, mean))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (torch.ones(5, dtype=torch.bool), r"token_mask must be \(4,\) bool"),
        (torch.ones(4), r"token_mask must be \(4,\) bool"),
        (torch.zeros(4, dtype=torch.bool), "at least one token"),
    ],
    ids=["another length", "numbers", "nothing"],
)
def test_a_mask_that_fits_no_tokens_is_rejected(mask: Tensor, sentence: str) -> None:
    probs, index = torch.full((2, 4, 2), 0.5), torch.zeros(2, 4, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match=sentence):
        losses.load_balancing_loss(router_probs=probs, expert_index=index, token_mask=mask)
    with pytest.raises(ValueError, match=sentence):
        losses.router_z_loss(router_logits=probs, token_mask=mask)


def test_choices_of_another_number_of_layers_are_rejected() -> None:
    probs = torch.full((2, 4, 2), 0.5)
    with pytest.raises(ValueError, match=r"expert_index must be \(L, T, K\)"):
        losses.load_balancing_loss(router_probs=probs, expert_index=torch.zeros(3, 4, 1, dtype=torch.int64))
