"""The MoE layer: router and experts.

The weights of runs that are computed together have a leading dimension, and so have their tokens (`Network.stack`).
The arithmetic of a run does not depend on its company: its numbers are the same to the last digit.

T tokens, E experts, K choices per token, D width, H hidden; P pairs, N of them kept, in B blocks of S rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim.batched import Blocks, Generators, block_size, drawn, linear, number_apart
from moe_sim.config.run_config import RunConfig
from moe_sim.losses import SMALLEST_STD
from moe_sim.router.balancing import Balancing
from moe_sim.router.routing import Routing, route, top_k_of_logits


class Router(nn.Module):
    """Logits z = x W_r, a linear map without bias, and a second map for learned noise."""

    def __init__(self, width: int, num_experts: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear_init(width, (width, num_experts), generator))
        self.noise_weight = nn.Parameter(torch.zeros(width, num_experts))

    def forward(self, x_TD: Tensor, jitter: float = 0.0, noise: Generators | None = None) -> Tensor:
        """(..., T, D) → (..., T, E) logits; the input is multiplied by U(1 − jitter, 1 + jitter) drawn from `noise`
        (Switch Transformer)."""
        if jitter and noise is not None:
            x_TD = x_TD * (1 + jitter * (2 * drawn(_uniform, noise, x_TD) - 1))
        return x_TD @ self.weight

    def noise_std(self, x_TD: Tensor, config: RunConfig, balancing: Balancing) -> float | Tensor:
        """σ of the Gaussian noise in training. If learned, softplus(x W_noise), (..., T, E) (Shazeer et al. 2017,
        eq. 4; W_noise starts at 0, so σ at ln 2), at least `SMALLEST_STD`, because softplus underflows to 0; otherwise
        one number, 0 for none."""
        if config.router_noise == "learned":
            return F.softplus(x_TD @ self.noise_weight).clamp_min(SMALLEST_STD)
        return config.noise_std if config.router_noise == "gaussian" or balancing.needs_gaussian_noise else 0.0


class Experts(nn.Module):
    """E two-layer ReLU networks D → H → D, each applied to the tokens sent to it.

    Tokens are gathered into blocks, one expert per block, and all blocks are multiplied at once (see `Blocks`).
    """

    def __init__(self, num_experts: int, width: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_in = nn.Parameter(linear_init(width, (num_experts, width, hidden), generator))
        self.bias_in = nn.Parameter(torch.zeros(num_experts, 1, hidden))
        self.weight_out = nn.Parameter(linear_init(hidden, (num_experts, hidden, width), generator))
        self.bias_out = nn.Parameter(torch.zeros(num_experts, 1, width))

    def forward(self, x_TD: Tensor, routing: Routing) -> Tensor:
        """(..., T, D) → (..., T, D), the sum of the chosen experts' outputs weighted by `routing.combine_weights`."""
        weights_TK, kept_TK = routing.combine_weights, routing.kept
        tokens, choices = weights_TK.shape[-2:]
        num_experts = self.weight_in.shape[-3]
        weight_in, bias_in, weight_out, bias_out = (weight.flatten(0, -3) for weight in self.parameters())
        expert_P = number_apart(routing.dispatch_index.numpy(), num_experts, 2).ravel()
        pair_N = np.arange(expert_P.size) if kept_TK is None else np.flatnonzero(kept_TK.numpy())
        blocks = Blocks(expert_P[pair_N], len(weight_in), block_size(tokens * choices, num_experts))

        # Gather. Padding reads the first token of its run; its output is never read, so no gradient flows through it.
        run_B = blocks.group_B // num_experts
        x_BSD = blocks.gather(x_TD.flatten(0, -2), pair_N // choices, run_B * tokens)

        # Compute all blocks at once.
        hidden_BSH = torch.baddbmm(blocks.of_groups(bias_in), x_BSD, blocks.of_groups(weight_in)).relu()
        out_BSD = torch.baddbmm(blocks.of_groups(bias_out), hidden_BSH, blocks.of_groups(weight_out))

        # Combine each token's rows as a weighted sum. A dropped pair reads the first row of its run with weight 0.
        if kept_TK is None:
            row_P = blocks.place_N
        else:
            first_block = np.searchsorted(run_B, np.arange(len(weight_in) // num_experts))
            row_P = np.repeat(first_block * blocks.size, tokens * choices)
            row_P[pair_N] = blocks.place_N
            weights_TK = weights_TK * kept_TK
        row_TK, weights_TK = torch.from_numpy(row_P).view(-1, choices), weights_TK.flatten(0, -2)
        out_TD = F.embedding_bag(row_TK, out_BSD.flatten(0, 1), per_sample_weights=weights_TK, mode="sum")
        return out_TD.view_as(x_TD)


class SharedExperts(nn.Module):
    """n two-layer ReLU networks D → H → D that every token passes; their outputs are added (Dai et al. 2024,
    DeepSeekMoE). One network with n·H hidden units computes them."""

    def __init__(self, count: int, width: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_in = nn.Parameter(linear_init(width, (width, count * hidden), generator))
        self.bias_in = nn.Parameter(torch.zeros(count * hidden))
        self.weight_out = nn.Parameter(linear_init(hidden, (count * hidden, width), generator))
        self.bias_out = nn.Parameter(torch.zeros(width))

    def forward(self, x_TD: Tensor) -> Tensor:
        """(..., T, D) → (..., T, D)."""
        return linear(linear(x_TD, self.weight_in, self.bias_in).relu(), self.weight_out, self.bias_out)


class MoE(nn.Module):
    """Router and experts: (..., T, D) → (..., T, D), and the routing."""

    def __init__(self, config: RunConfig, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.router = Router(width, config.num_experts, generator)
        self.experts = Experts(config.num_experts, width, config.expert_hidden_size, generator)
        shared = config.shared_experts
        self.shared = SharedExperts(shared, width, config.expert_hidden_size, generator) if shared else None

    def forward(self, x_TD: Tensor, config: RunConfig, balancing: Balancing, **how: Any) -> tuple[Tensor, Routing]:
        """Routes like `route`, then applies and combines the experts."""
        routing = self.route(x_TD, config, balancing, **how)
        out_TD = self.experts(x_TD, routing)
        return out_TD if self.shared is None else out_TD + self.shared(x_TD), routing

    def route(
        self, x_TD: Tensor, config: RunConfig, balancing: Balancing, *,
        noise: Generators | None = None, inference: bool = False, limited: bool | None = None,
        tokens: Tensor | None = None,
    ) -> Routing:  # fmt: skip
        """The routing alone, under the live knobs of `config`.

        Args:
            noise: source of the noise; None for no noise.
            inference: no capacity limit, and every token is routed as if alone.
            limited: whether the capacity limit applies; None if as usual.
            tokens: (..., T) int64, what each token is, for a mechanism that needs it.
        """
        jitter = min(config.noise_std, 1.0) if config.router_noise == "jitter" else 0.0
        noise_std = self.router.noise_std(x_TD, config, balancing) if noise is not None else 0.0
        select = top_k_of_logits if inference and balancing.looks_at_batch else balancing.selector(tokens)
        logits = self.router(x_TD, jitter, noise)
        return route(
            logits,
            config,
            select,
            noise=noise,
            noise_std=noise_std,
            limited=not inference if limited is None else limited,
        )


def _uniform(generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.rand(like.shape, generator=generator)


def linear_init(fan_in: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """U(−1/√fan_in, 1/√fan_in), the default of `nn.Linear`, drawn from the given generator."""
    bound = 1 / math.sqrt(fan_in)
    return nn.init.uniform_(torch.empty(shape), -bound, bound, generator)
