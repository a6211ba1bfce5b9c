"""The MoE layer against a plain loop over tokens and choices, and the paths of gradients and unserved tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim import RunConfig
from moe_sim.router.balancing import METHODS, Balancing
from moe_sim.router.routing import Routing, route
from moe_sim.tasks.topics import Topics
from moe_sim.trainer.moe import Experts, MoE
from moe_sim.trainer.network import Network
from tests.support import oracles

TOKENS, EXPERTS, WIDTH, HIDDEN = 48, 6, 5, 7
SHARES = {
    "balanced": [1 / 6] * 6,
    "skewed": [0.45, 0.25, 0.15, 0.1, 0.04, 0.01],
    "collapsed": [0.9996, 1e-4, 1e-4, 1e-4, 5e-5, 5e-5],
}


def some_routing(load: str, top_k: int, dropping: bool, seed: int = 0) -> Routing:
    """Random choices with the shares of `load`, random combine weights, and a third of the pairs dropped, or none."""
    random = np.random.default_rng(seed)
    chosen = np.array([random.choice(EXPERTS, top_k, replace=False, p=SHARES[load]) for _ in range(TOKENS)])
    weights = torch.tensor(random.random((TOKENS, top_k)), requires_grad=True)
    kept = torch.as_tensor(random.random((TOKENS, top_k)) < 2 / 3) if dropping else None
    logits = torch.zeros(TOKENS, EXPERTS)
    index = torch.as_tensor(chosen)
    return Routing(logits, logits, 0.0, logits, index, None, index, weights, kept)


def crowded_routing(method: str, **knobs: object) -> Routing:
    """The routing of tokens that mostly prefer the same experts."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(TOKENS, EXPERTS)) * random.uniform(0, 3, size=(TOKENS, 1)) + random.normal(
        size=EXPERTS
    )
    config = RunConfig(num_experts=EXPERTS, **knobs)
    return route(torch.tensor(logits, requires_grad=True), config, METHODS[method](EXPERTS).select)


def some_experts() -> Experts:
    """Experts in double precision whose biases are not zero."""
    generator = torch.Generator().manual_seed(1)
    experts = Experts(EXPERTS, WIDTH, HIDDEN, generator).double()
    for bias in (experts.bias_in, experts.bias_out):
        nn.init.normal_(bias, generator=generator)
    return experts


def plain_loop(experts: Experts, x: Tensor, routing: Routing) -> Tensor:
    """The definition: for each token the weighted sum of W_out·relu(W_in·x + b_in) + b_out over the experts that
    compute it."""
    rows = []
    for t in range(len(x)):
        row = torch.zeros_like(x[t])
        for k in range(routing.dispatch_index.shape[1]):
            if routing.kept is None or routing.kept[t, k]:
                e = int(routing.dispatch_index[t, k])
                hidden = F.relu(x[t] @ experts.weight_in[e] + experts.bias_in[e, 0])
                row = row + routing.combine_weights[t, k] * (hidden @ experts.weight_out[e] + experts.bias_out[e, 0])
        rows.append(row)
    return torch.stack(rows)


def assert_the_layer_equals_the_loop(routing: Routing, source: Tensor) -> None:
    """Compares outputs, and gradients on tokens, expert weights and the source of the combine weights."""
    experts = some_experts()
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=generator, requires_grad=True)
    direction = torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=generator)
    leaves = {"x": x, "source": source, **dict(experts.named_parameters())}

    results = []
    for output in (experts(x, routing), plain_loop(experts, x, routing)):
        gradients = torch.autograd.grad((output * direction).sum(), list(leaves.values()), retain_graph=True)
        results.append({"output": output.detach(), **dict(zip(leaves, gradients, strict=True))})
    for name, expected in results[1].items():
        np.testing.assert_allclose(results[0][name].numpy(), expected.numpy(), atol=1e-12, err_msg=name)
    unserved = ~routing.served()
    assert not results[0]["output"].numpy()[unserved].any()
    assert not results[0]["x"].numpy()[unserved].any()


@pytest.mark.parametrize("dropping", [False, True], ids=["dropless", "dropping"])
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("load", SHARES)
def test_the_layer_equals_a_loop_over_tokens_and_choices(load: str, top_k: int, dropping: bool) -> None:
    routing = some_routing(load, top_k, dropping)
    assert_the_layer_equals_the_loop(routing, routing.combine_weights)


@pytest.mark.parametrize("renormalize", [False, True], ids=["raw", "renormalized"])
@pytest.mark.parametrize("factor", [None, 0.5, 1.0])
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "hash"])  # whose weights are constant
def test_the_layer_equals_the_loop_with_every_mechanism_and_rerouted_overflow(
    method: str, top_k: int, factor: float | None, renormalize: bool
) -> None:
    routing = crowded_routing(
        method, top_k=top_k, capacity_factor=factor, overflow="reroute", renormalize=renormalize and top_k > 1
    )
    assert_the_layer_equals_the_loop(routing, routing.logits)


def test_the_routings_of_this_file_cover_rerouting_and_expert_choice() -> None:
    rerouted = crowded_routing("none", top_k=2, capacity_factor=1.0, overflow="reroute")
    assert rerouted.kept is not None
    moved = rerouted.kept & (rerouted.dispatch_index != rerouted.expert_index)
    assert moved.sum() >= 10
    experts_choose = crowded_routing("expert_choice", top_k=1)
    assert experts_choose.assigned is not None
    experts_of_token = experts_choose.assigned.sum(1)
    assert (experts_of_token == 0).sum() >= 5
    assert experts_of_token.max() >= 3


def test_the_layer_output_for_an_unserved_token_is_exactly_zero() -> None:
    # 0.5 · 48 / 6 = 4 seats at each of 6 experts, or as many picks: half of the 48 tokens at most are served.
    x = torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for method, overflow in (("none", "drop"), ("none", "reroute"), ("expert_choice", "drop")):
        routing = crowded_routing(method, capacity_factor=0.5, overflow=overflow)
        output = some_experts()(x, routing).detach().numpy()
        served = routing.served()
        assert 0 < served.sum() <= 24
        assert (output[~served] == 0).all()
        assert (output[served] != 0).any(axis=1).all()


def test_an_expert_without_tokens_gets_a_gradient_of_zero() -> None:
    experts, routing = some_experts(), some_routing("collapsed", 1, dropping=False)
    idle = 5
    assert not (routing.expert_index == idle).any()
    experts(torch.ones(TOKENS, WIDTH, dtype=torch.float64), routing).sum().backward()
    assert all(not parameter.grad[idle].any() for parameter in experts.parameters())
    assert all(parameter.grad[0].any() for parameter in experts.parameters())


NO_BALANCING = Balancing(4)


class SmallTask(Topics):
    """Three classes of narrow tokens."""

    width, classes = WIDTH, 3

    def __init__(self) -> None:
        """It draws no tokens."""


def small_network(**knobs: object) -> tuple[Network, RunConfig]:
    config = RunConfig(num_experts=4, expert_hidden_size=8, **knobs)
    return Network(SmallTask(), config, torch.Generator().manual_seed(0)).double(), config


def test_a_dropped_token_takes_the_residual_path() -> None:
    network, config = small_network(capacity_factor=0.25)
    x = torch.randn(64, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits, (routing,) = network(x, config, [NO_BALANCING])
    assert routing.kept is not None
    dropped = ~routing.kept[:, 0]
    without_experts = F.layer_norm(x, (WIDTH,)) @ network.head.weight + network.head.bias
    same = torch.isclose(logits, without_experts).all(1)
    assert 0 < dropped.sum() < 64
    assert torch.equal(same, dropped)


@pytest.mark.parametrize("method", ["none", "bias", "expert_choice", "sinkhorn"])
@pytest.mark.parametrize(
    "knobs",
    [{"top_k": 1}, {"top_k": 2}, {"top_k": 2, "renormalize": True},
     {"top_k": 1, "capacity_factor": 1.0, "overflow": "reroute"}],
    ids=str,
)  # fmt: skip
def test_the_router_gets_the_gradient_of_the_task_loss(knobs: dict[str, object], method: str) -> None:
    network, config = small_network(**knobs)
    balancing = METHODS[method](4)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, WIDTH, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (64,), generator=generator)

    def task_loss() -> Tensor:
        return F.cross_entropy(network(x, config, [balancing])[0], labels)

    task_loss().backward()
    weight, step = network.layers[0].router.weight, 1e-6
    for index in ((0, 0), (2, 1), (4, 3)):
        slope = 0.0
        for sign in (1, -1):
            with torch.no_grad():
                weight[index] += sign * step
                slope += sign * task_loss().item() / (2 * step)
                weight[index] -= sign * step
        # Measured: slopes between 0.0002 and 0.005, differences below 2e-10.
        assert abs(slope) > 1e-6
        assert weight.grad[index].item() == pytest.approx(slope, abs=1e-7)


def test_the_layer_routes_with_its_router_and_combines_its_experts() -> None:
    config = RunConfig(num_experts=EXPERTS, expert_hidden_size=8, top_k=2)
    moe = MoE(config, WIDTH, torch.Generator().manual_seed(0))
    x = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    output, routing = moe(x, config, Balancing(EXPERTS))
    expected = oracles.choices((x @ moe.router.weight).detach().numpy(), 2)
    np.testing.assert_array_equal(routing.expert_index.numpy(), expected)
    np.testing.assert_allclose(output.detach().numpy(), plain_loop(moe.experts, x, routing).detach().numpy(), atol=1e-6)
