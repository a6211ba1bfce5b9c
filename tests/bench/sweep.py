"""The cost of a sweep: 12 α × 5 seeds × 600 steps of the default task, and the same work with transformers' Mixtral.

Run by `python -m tests.bench sweep`. The peer trains the same network on the same batches with Mixtral's router and
experts in place of our layer, one run after another, and computes only its loss.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim import RunConfig
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engines import engine_named
from moe_sim.sweep.grid import Grid, parse_values
from moe_sim.tasks.task import generators
from moe_sim.tasks.topics import Topics
from moe_sim.trainer.moe import linear_init

SEEDS, STEPS = 5, 600
ALPHAS = parse_values("aux_loss_coef", "0,0.0003..10:11:log")


def print_sweep(peer_runs: int) -> None:
    """Print the table as Markdown."""
    cells = Grid(RunConfig(), {"aux_loss_coef": ALPHAS}, SEEDS, STEPS).cells()
    print(f"{len(ALPHAS)} α × {SEEDS} seeds × {STEPS} steps of the default task, torch {torch.__version__}\n")
    print("| | seconds | relative to two workers |\n| --- | --- | --- |")
    two = _seconds_of_sweep(Sweep(cells, engine_named("loky", 2)))
    for words, seconds in (
        ("loky, two workers, start-up included", two),
        ("the same, one run at a time", _seconds_of_sweep(Sweep(cells, engine_named("loky", 2), largest_bundle=1))),
        ("loky, one worker", _seconds_of_sweep(Sweep(cells, engine_named("loky", 1)))),
        *_peers(peer_runs, len(cells)),
    ):
        print(f"| {words} | {seconds:.1f} | {seconds / two:.2f} |", flush=True)


def _seconds_of_sweep(sweep: Sweep) -> float:
    start = time.perf_counter()
    rows = sweep.run()
    seconds = time.perf_counter() - start
    assert all(row["status"] == "done" for row in rows)
    return seconds


def _peers(runs: int, all_runs: int) -> list[tuple[str, float]]:
    """Seconds that all runs would take with each implementation of Mixtral's experts, extrapolated from `runs` runs."""
    torch.set_num_threads(1)
    try:
        peers = {implementation: MixtralNetwork(implementation) for implementation in ("eager", "grouped_mm")}
    except ImportError:
        print("| (transformers is not installed) | – | – |")
        return []
    results = []
    for implementation, network in peers.items():
        _train(network, ALPHAS[0], 0, 50)
        start = time.perf_counter()
        for seed in range(runs):
            _train(MixtralNetwork(implementation), ALPHAS[seed * len(ALPHAS) // runs], seed, STEPS)
        seconds = (time.perf_counter() - start) / runs * all_runs
        results.append(
            (f"transformers' Mixtral block ({implementation}), in sequence, extrapolated from {runs} runs", seconds)
        )
    return results


class MixtralNetwork(nn.Module):
    """`moe_sim.trainer.network.Network` with Mixtral's router and experts. Its experts have three matrices instead of
    two, so two thirds of the hidden size do the same arithmetic."""

    def __init__(self, implementation: str) -> None:
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        super().__init__()
        config, random = RunConfig(), torch.Generator().manual_seed(0)
        shape = MixtralConfig(
            hidden_size=Topics.width, intermediate_size=2 * config.expert_hidden_size // 3,
            num_local_experts=config.num_experts, num_experts_per_tok=config.top_k, hidden_act="relu",
        )  # fmt: skip
        shape._experts_implementation = implementation
        self.block = MixtralSparseMoeBlock(shape)
        for parameter in self.block.parameters():
            nn.init.normal_(parameter, std=0.1)
        self.head_weight = nn.Parameter(linear_init(Topics.width, (Topics.width, Topics.classes), random))
        self.head_bias = nn.Parameter(torch.zeros(Topics.classes))

    def forward(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """(T, D) → (T, classes) logits and (T, E) router logits. The block's own `forward` makes the same two calls but
        does not return the router logits."""
        router_logits, weights, index = self.block.gate(x_TD)
        x_TD = F.layer_norm(x_TD + self.block.experts(x_TD, index, weights), x_TD.shape[1:])
        return torch.addmm(self.head_bias, x_TD, self.head_weight), router_logits


def _train(network: MixtralNetwork, alpha: float, seed: int, steps: int) -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    config, random = RunConfig(seed=seed), generators(seed)
    task = Topics(config, random["task"], random["held_out"])
    shares = task.shares(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    for _ in range(steps):
        batch = task.batch(config.batch_tokens, shares, random["data"])
        logits, router_logits = network(batch.inputs)
        load_balancing_loss = load_balancing_loss_func((router_logits,), config.num_experts, config.top_k)
        loss = F.cross_entropy(logits, batch.labels) + alpha * load_balancing_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
