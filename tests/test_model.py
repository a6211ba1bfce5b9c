"""The MoE layer against a plain loop over tokens and choices, and the paths that gradients and dropped tokens take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from moe_sim import RunConfig
from moe_sim.model import Experts, Network, block_rows
from moe_sim.router import Routing

TOKENS, EXPERTS, WIDTH, HIDDEN = 48, 6, 5, 7
SHARES = {
    "balanced": [1 / 6] * 6,
    "skewed": [0.45, 0.25, 0.15, 0.1, 0.04, 0.01],
    "collapsed": [0.9996, 1e-4, 1e-4, 1e-4, 5e-5, 5e-5],
}


def some_routing(load: str, top_k: int, dropping: bool, seed: int = 0) -> Routing:
    """Random choices by the shares of `load`, random combine weights, and a third of the pairs dropped or none."""
    random = np.random.default_rng(seed)
    chosen = np.array([random.choice(EXPERTS, top_k, replace=False, p=SHARES[load]) for _ in range(TOKENS)])
    weights = torch.tensor(random.random((TOKENS, top_k)), requires_grad=True)
    kept = torch.as_tensor(random.random((TOKENS, top_k)) < 2 / 3) if dropping else None
    logits = torch.zeros(TOKENS, EXPERTS)
    return Routing(logits, logits, logits, torch.as_tensor(chosen), weights, kept)


def some_experts() -> Experts:
    """Experts in double precision whose biases are not zero."""
    generator = torch.Generator().manual_seed(1)
    experts = Experts(EXPERTS, WIDTH, HIDDEN, generator).double()
    for bias in (experts.bias_in, experts.bias_out):
        nn.init.normal_(bias, generator=generator)
    return experts


def plain_loop(experts: Experts, x: Tensor, routing: Routing) -> Tensor:
    """The definition: for each token the weighted sum of W_out·relu(W_in·x + b_in) + b_out over its kept experts."""
    rows = []
    for t in range(len(x)):
        row = torch.zeros_like(x[t])
        for k in range(routing.expert_index.shape[1]):
            if routing.kept is None or routing.kept[t, k]:
                e = int(routing.expert_index[t, k])
                hidden = F.relu(x[t] @ experts.weight_in[e] + experts.bias_in[e, 0])
                row = row + routing.combine_weights[t, k] * (hidden @ experts.weight_out[e] + experts.bias_out[e, 0])
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("dropping", [False, True], ids=["dropless", "dropping"])
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("load", SHARES)
def test_the_layer_equals_a_loop_over_tokens_and_choices(load: str, top_k: int, dropping: bool) -> None:
    experts, routing = some_experts(), some_routing(load, top_k, dropping)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=generator, requires_grad=True)
    direction = torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=generator)
    leaves = {"x": x, "combine_weights": routing.combine_weights, **dict(experts.named_parameters())}

    results = []
    for output in (experts(x, routing), plain_loop(experts, x, routing)):
        gradients = torch.autograd.grad((output * direction).sum(), list(leaves.values()))
        results.append({"output": output.detach(), **dict(zip(leaves, gradients, strict=True))})
    for name, expected in results[1].items():
        np.testing.assert_allclose(results[0][name].numpy(), expected.numpy(), atol=1e-12, err_msg=name)


def test_an_expert_without_tokens_gets_a_gradient_of_zero() -> None:
    experts, routing = some_experts(), some_routing("collapsed", 1, dropping=False)
    idle = 5
    assert not (routing.expert_index == idle).any()
    experts(torch.ones(TOKENS, WIDTH, dtype=torch.float64), routing).sum().backward()
    assert all(not parameter.grad[idle].any() for parameter in experts.parameters())
    assert all(parameter.grad[0].any() for parameter in experts.parameters())


@given(counts=st.lists(st.integers(0, 2048), min_size=2, max_size=64).filter(any))
def test_blocks_have_room_for_every_pair_and_waste_less_than_padding_to_the_largest(counts: list[int]) -> None:
    rows = block_rows(counts)
    blocks = [-(-count // rows) for count in counts]
    assert 1 <= rows <= max(counts)
    assert all(block * rows >= count for block, count in zip(blocks, counts, strict=True))
    assert sum(blocks) * rows <= sum(count > 0 for count in counts) * max(counts)


def test_even_loads_are_one_block_an_expert() -> None:
    assert block_rows([32] * 8) == 32


def test_a_collapsed_load_costs_about_the_rows_that_it_needs() -> None:
    # 249 pairs on one expert and one on each of seven: padding all to 249 would take 8 · 249 = 1992 rows.
    # Measured: 15 blocks of 32 rows = 480.
    counts = [249, 1, 1, 1, 1, 1, 1, 1]
    rows = block_rows(counts)
    assert sum(-(-count // rows) for count in counts) * rows <= 2.5 * 256


def small_network(**knobs: object) -> tuple[Network, RunConfig]:
    config = RunConfig(num_experts=4, expert_hidden_size=8, **knobs)
    return Network(nn.Identity(), WIDTH, 3, config, torch.Generator().manual_seed(0)).double(), config


def test_a_dropped_token_passes_on_by_the_residual_path() -> None:
    network, config = small_network(capacity_factor=0.25)
    x = torch.randn(64, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits, routing = network(x, config, None)
    assert routing.kept is not None
    dropped = ~routing.kept[:, 0]
    without_experts = F.layer_norm(x, (WIDTH,)) @ network.head_weight + network.head_bias
    same = torch.isclose(logits, without_experts).all(1)
    assert 0 < dropped.sum() < 64
    assert torch.equal(same, dropped)


@pytest.mark.parametrize("knobs", [{"top_k": 1}, {"top_k": 2}, {"top_k": 2, "renormalize": True}])
def test_the_router_gets_the_gradient_of_the_task_loss(knobs: dict[str, object]) -> None:
    network, config = small_network(**knobs)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, WIDTH, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (64,), generator=generator)

    def task_loss() -> Tensor:
        return F.cross_entropy(network(x, config, None)[0], labels)

    task_loss().backward()
    weight, step = network.moe.router.weight, 1e-6
    for index in ((0, 0), (2, 1), (4, 3)):
        slope = 0.0
        for sign in (1, -1):
            with torch.no_grad():
                weight[index] += sign * step
                slope += sign * task_loss().item() / (2 * step)
                weight[index] -= sign * step
        # Measured: slopes between 0.0002 and 0.005, differences below 2e-10.
        assert abs(slope) > 1e-4
        assert weight.grad[index].item() == pytest.approx(slope, abs=1e-7)
