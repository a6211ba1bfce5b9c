"""The tokens over which a loss counts: by hand, and against a loop over the groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moe_sim import RunConfig, losses
from moe_sim.router.balancing import METHODS, RUNNING_DECAY
from moe_sim.router.routing import Routing, route
from tests.support import oracles

TOKENS = 64


def routed(config: RunConfig, seed: int) -> Routing:
    logits = torch.randn(TOKENS, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    noise = torch.Generator().manual_seed(seed) if METHODS[config.balancing].needs_gaussian_noise else None
    return route(logits, config, METHODS[config.balancing](4).select, noise=noise, noise_std=0.5)


def loss_of(routing: Routing, config: RunConfig) -> Tensor:
    loss = METHODS[config.balancing](4).loss(routing, config)
    assert loss is not None
    return loss


def of_tokens(routing: Routing, tokens: slice, config: RunConfig) -> float:
    """The loss of some tokens, by the functions that take one group."""
    probs, index = routing.probs[tokens], routing.expert_index[tokens]
    importance = losses.importance_loss(router_probs=probs)
    if config.balancing == "importance":
        return importance.item()
    if config.balancing in ("load", "importance_and_load"):
        load = losses.load_loss(
            router_logits=routing.logits[tokens], noisy_logits=routing.noisy_logits[tokens], noise_std=0.5,
            top_k=config.top_k,
        )  # fmt: skip
        return (load if config.balancing == "load" else (importance + load) / 2).item()
    f = [(index == expert).sum().item() / index.numel() for expert in range(4)]
    return 4 * sum(share * p for share, p in zip(f, probs.mean(0).tolist(), strict=True))


@given(
    balancing=st.sampled_from(["load_balancing", "importance", "load", "importance_and_load", "bias"]),
    scope=st.sampled_from([("sequence", 16), ("sequence", 8), ("micro_batch", 16), ("micro_batch", 32)]),
    top_k=st.integers(1, 3), seed=st.integers(0, 10_000),
)  # fmt: skip
def test_the_loss_is_the_mean_over_the_groups(balancing: str, scope: tuple[str, int], top_k: int, seed: int) -> None:
    name, size = scope
    config = RunConfig(
        num_experts=4, batch_tokens=TOKENS, balancing=balancing, top_k=top_k, balance_scope=name,
        sequence_tokens=size if name == "sequence" else 1, micro_batches=TOKENS // size,
    )  # fmt: skip
    assert config.balance_groups == TOKENS // size
    routing = routed(config, seed)
    groups = [of_tokens(routing, slice(start, start + size), config) for start in range(0, TOKENS, size)]
    assert loss_of(routing, config).item() == pytest.approx(sum(groups) / len(groups), abs=1e-5)


def test_pooling_hides_what_each_micro_batch_shows() -> None:
    # E = 2, k = 1: one micro-batch all on expert 0 with p = (0.9, 0.1), the other mirrored. 2 · 0.9 = 1.8 each; pooled
    # f = P = (1/2, 1/2): 1.
    logits = torch.log(torch.tensor([[0.9, 0.1]] * 16 + [[0.1, 0.9]] * 16))
    config = RunConfig(num_experts=2, batch_tokens=32, micro_batches=2)
    routing = route(logits, config)
    mechanism = METHODS["load_balancing"](2)
    assert mechanism.loss(routing, config).item() == pytest.approx(1.0)  # type: ignore[union-attr]
    each = config.replace(balance_scope="micro_batch")
    assert mechanism.loss(routing, each).item() == pytest.approx(1.8)  # type: ignore[union-attr]


@pytest.mark.parametrize("convention", losses.CONVENTIONS)
def test_a_running_average_weighs_each_step_twice_as_much_as_the_one_before(convention: Any) -> None:
    assert RUNNING_DECAY == 0.5
    config = RunConfig(num_experts=4, top_k=2, balance_scope="running", convention=convention)
    mechanism = METHODS["load_balancing"](4)
    shares: list[np.ndarray] = []
    for seed in range(5):
        routing = routed(config, seed)
        f = losses.choice_shares(routing.probs, routing.expert_index, convention).detach().numpy()
        shares.append(f)
        weights = [0.5**age for age in reversed(range(len(shares)))]
        average = sum(w * one for w, one in zip(weights, shares, strict=True)) / sum(weights)
        expected = 4 * (average * routing.probs.mean(0).detach().numpy()).sum()
        loss = mechanism.loss(routing, config)
        assert loss is not None
        assert loss.item() == pytest.approx(expected, abs=1e-5)
        mechanism.after_step(oracles.load(routing.expert_index.numpy(), 4), config)


def test_a_loss_that_is_asked_for_twice_in_a_step_counts_once() -> None:
    config = RunConfig(num_experts=4, balance_scope="running")
    once, twice = METHODS["load_balancing"](4), METHODS["load_balancing"](4)
    for seed in range(3):
        routing = routed(config, seed)
        once.loss(routing, config)
        for _ in range(2):
            twice.loss(routing, config)
        for mechanism in (once, twice):
            mechanism.after_step(np.full(4, 0.25), config)
    assert torch.equal(once.average, twice.average)  # type: ignore[attr-defined]


def test_a_bias_has_a_loss_only_where_the_scope_is_narrower_than_the_batch() -> None:
    config = RunConfig(num_experts=4, balancing="bias", batch_tokens=TOKENS)
    routing, mechanism = routed(config, 0), METHODS["bias"](4)
    assert mechanism.loss(routing, config) is None
    assert mechanism.losses([mechanism] * 2, [routing] * 2, config.replace(convention="huggingface")) is None
    assert mechanism.loss(routing, config.replace(balance_scope="running")) is None
    assert mechanism.loss(routing, config.replace(balance_scope="micro_batch")) is not None


def test_tokens_that_stand_alone_are_balanced_over_the_batch() -> None:
    assert RunConfig(balance_scope="sequence").balance_groups == 1
    assert RunConfig(balance_scope="sequence", task="text").balance_groups == 1
    assert RunConfig(balance_scope="sequence", task="language", batch_tokens=512).balance_groups == 8
    assert RunConfig(balance_scope="sequence", sequence_tokens=32).balance_groups == 8


@pytest.mark.parametrize(
    ("knobs", "word"),
    [
        ({"batch_tokens": 100, "balance_scope": "micro_batch", "micro_batches": 8}, "Micro-batches"),
        ({"batch_tokens": 40, "sequence_tokens": 16}, "Tokens per sequence"),
    ],
)
def test_groups_that_do_not_fit_the_batch_get_a_sentence(knobs: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} .* must divide the tokens per step"):
        RunConfig(**knobs)
