"""The MoE layer and the small network around it.

T tokens, E experts, K choices per token, D width, H hidden; P = T·K pairs, N of them kept; R = B·S rows in B blocks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim.config.run_config import RunConfig
from moe_sim.losses import SMALLEST_STD
from moe_sim.router.balancing import Balancing
from moe_sim.router.capacity import rank_within_expert
from moe_sim.router.routing import Routing, route, top_k_of_logits


class Router(nn.Module):
    """Logits z = x W_r, a linear map without bias, and a second map for learned noise."""

    def __init__(self, width: int, num_experts: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear_init(width, (width, num_experts), generator))
        self.noise_weight = nn.Parameter(torch.zeros(width, num_experts))

    def forward(self, x_TD: Tensor, jitter: float = 0.0, noise: torch.Generator | None = None) -> Tensor:
        """(T, D) → (T, E) logits; the input is multiplied by U(1 − jitter, 1 + jitter) drawn from `noise`
        (Switch Transformer)."""
        if jitter and noise is not None:
            x_TD = x_TD * (1 + jitter * (2 * torch.rand(x_TD.shape, generator=noise) - 1))
        return x_TD @ self.weight

    def noise_std(self, x_TD: Tensor, config: RunConfig, balancing: Balancing) -> float | Tensor:
        """σ of the Gaussian noise in training. If learned, softplus(x W_noise), (T, E) (Shazeer et al. 2017, eq. 4;
        W_noise starts at 0, so σ at ln 2), at least `SMALLEST_STD`, because softplus underflows to 0; otherwise one
        number, 0 for none."""
        if config.router_noise == "learned":
            return F.softplus(x_TD @ self.noise_weight).clamp_min(SMALLEST_STD)
        return config.noise_std if config.router_noise == "gaussian" or balancing.needs_gaussian_noise else 0.0


class Experts(nn.Module):
    """E two-layer ReLU networks D → H → D, each applied to the tokens sent to it.

    Tokens are gathered into blocks of S rows, one expert per block, and all blocks are multiplied at once (the layout
    of MegaBlocks, Gale et al. 2022, with plain batched matrix products). S follows the load. With even loads, S is the
    largest load, so every expert is one block. If one expert takes nearly everything, S is smaller, so the others are
    not padded up to it. Balanced or collapsed, the work stays near T·K rows.
    """

    def __init__(self, num_experts: int, width: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_in = nn.Parameter(linear_init(width, (num_experts, width, hidden), generator))
        self.bias_in = nn.Parameter(torch.zeros(num_experts, 1, hidden))
        self.weight_out = nn.Parameter(linear_init(hidden, (num_experts, hidden, width), generator))
        self.bias_out = nn.Parameter(torch.zeros(num_experts, 1, width))

    def forward(self, x_TD: Tensor, routing: Routing) -> Tensor:
        """(T, D) → (T, D), the sum of the chosen experts' outputs weighted by `routing.combine_weights`."""
        weights_TK, kept_TK = routing.combine_weights, routing.kept
        expert_P = routing.dispatch_index.numpy().ravel()  # P = T·K pairs, of which N are kept
        pair_N = np.arange(expert_P.size) if kept_TK is None else np.flatnonzero(kept_TK.numpy())
        rows, expert_B, row_N = _assign_rows(expert_P[pair_N], len(self.weight_in))

        # Gather. Padding rows read token 0; their output is never read, so no gradient flows through them.
        token_R = np.zeros(len(expert_B) * rows, dtype=np.int64)
        token_R[row_N] = pair_N // weights_TK.shape[1]
        x_BSD = x_TD.index_select(0, torch.from_numpy(token_R)).view(len(expert_B), rows, -1)

        # Compute all blocks at once.
        weight_in, bias_in, weight_out, bias_out = _block_weights(tuple(self.parameters()), expert_B)
        hidden_BSH = torch.baddbmm(bias_in, x_BSD, weight_in).relu()
        out_RD = torch.baddbmm(bias_out, hidden_BSH, weight_out).flatten(0, 1)

        # Combine each token's rows as a weighted sum. A dropped pair reads row 0 with weight 0.
        row_P = np.zeros(expert_P.size, dtype=np.int64)
        row_P[pair_N] = row_N
        if kept_TK is not None:
            weights_TK = weights_TK * kept_TK
        row_TK = torch.from_numpy(row_P).view_as(weights_TK)
        return F.embedding_bag(row_TK, out_RD, per_sample_weights=weights_TK, mode="sum")


def _assign_rows(expert_N: np.ndarray, num_experts: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Assigns pairs to blocks: the rows S per block, the expert of each block (B,), and the row of each pair (N,)."""
    counts_E = np.bincount(expert_N, minlength=num_experts)
    rows = block_rows(counts_E.tolist())
    blocks_E = -(-counts_E // rows)
    first_row_E = (blocks_E.cumsum() - blocks_E) * rows
    row_N = first_row_E[expert_N] + rank_within_expert(expert_N, counts_E)
    return rows, np.repeat(np.arange(num_experts), blocks_E), row_N


def _block_weights(weights: tuple[Tensor, ...], expert_B: np.ndarray) -> tuple[Tensor, ...]:
    """The weights of each block's expert; no copy if every expert is one block."""
    if np.array_equal(expert_B, np.arange(len(weights[0]))):
        return weights
    index_B = torch.from_numpy(expert_B)
    return tuple(weight.index_select(0, index_B) for weight in weights)


def block_rows(counts: list[int]) -> int:
    """The best number of rows S per block, given the number of pairs per expert.

    Of the sizes ⌈max/1⌉, ⌈max/2⌉, ⌈max/4⌉ …, the one with the least estimated work: all rows, plus `_BLOCK_COST` rows
    per block for copying its expert's weights.
    """
    best_cost, best = math.inf, 1
    largest, parts = max(counts), 1
    while True:
        rows = max(1, math.ceil(largest / parts))
        blocks = sum(-(-count // rows) for count in counts)
        cost = blocks * (rows + _BLOCK_COST)
        if cost < best_cost:
            best_cost, best = cost, rows
        if rows <= _BLOCK_COST or parts >= 64:
            return best
        parts *= 2


_BLOCK_COST = 16


class MoE(nn.Module):
    """Router and experts: (T, D) → (T, D), and the routing."""

    def __init__(self, config: RunConfig, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.router = Router(width, config.num_experts, generator)
        self.experts = Experts(config.num_experts, width, config.expert_hidden_size, generator)

    def forward(self, x_TD: Tensor, config: RunConfig, balancing: Balancing, **how: Any) -> tuple[Tensor, Routing]:
        """Routes like `route`, then applies and combines the experts."""
        routing = self.route(x_TD, config, balancing, **how)
        return self.experts(x_TD, routing), routing

    def route(
        self, x_TD: Tensor, config: RunConfig, balancing: Balancing, *,
        noise: torch.Generator | None = None, inference: bool = False,
    ) -> Routing:  # fmt: skip
        """The routing alone, under the live knobs of `config`.

        Args:
            noise: generator of the noise; None for no noise.
            inference: no capacity limit, and every token is routed as if alone.
        """
        jitter = min(config.noise_std, 1.0) if config.router_noise == "jitter" else 0.0
        noise_std = self.router.noise_std(x_TD, config, balancing) if noise is not None else 0.0
        select = top_k_of_logits if inference and balancing.looks_at_batch else balancing.select
        logits = self.router(x_TD, jitter, noise)
        return route(logits, config, select, noise=noise, noise_std=noise_std, limited=not inference)


class Network(nn.Module):
    """stem → x + MoE(x) → LayerNorm → linear head. A token that capacity drops takes only the residual path."""

    def __init__(
        self, stem: nn.Module, width: int, classes: int, config: RunConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.stem = stem
        self.moe = MoE(config, width, generator)
        self.head_weight = nn.Parameter(linear_init(width, (width, classes), generator))
        self.head_bias = nn.Parameter(torch.zeros(classes))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the part that can be frozen by itself."""
        return {
            "experts": list(self.moe.experts.parameters()),
            "router": list(self.moe.router.parameters()),
            "head": [*self.stem.parameters(), self.head_weight, self.head_bias],
        }

    def forward(self, inputs: Tensor, config: RunConfig, balancing: Balancing, **how: Any) -> tuple[Tensor, Routing]:
        """Task inputs of T tokens → ((T, classes) logits, routing), routed as `MoE.route` does."""
        x_TD = self.stem(inputs)
        moe_TD, routing = self.moe(x_TD, config, balancing, **how)
        x_TD = F.layer_norm(x_TD + moe_TD, x_TD.shape[1:])
        return torch.addmm(self.head_bias, x_TD, self.head_weight), routing


def linear_init(fan_in: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """U(−1/√fan_in, 1/√fan_in), the default of `nn.Linear`, drawn from the given generator."""
    bound = 1 / math.sqrt(fan_in)
    return nn.init.uniform_(torch.empty(shape), -bound, bound, generator)
