"""The blocks of which a network is a chain, each with an MoE layer.

As everywhere in the network, the weights and tokens of several runs have a leading dimension.

T tokens, D width; N sequences of S tokens, A attention heads.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim.batched import linear
from moe_sim.config.run_config import RunConfig
from moe_sim.router.balancing import Balancing
from moe_sim.router.routing import Routing
from moe_sim.trainer.moe import MoE, linear_init

WIDTH_OF_HEAD = 16


class LayerNorm(nn.Module):
    """Layer normalization with a learned scale and shift (Ba et al. 2016), as `nn.LayerNorm`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_TD: Tensor) -> Tensor:
        """(..., T, D) → (..., T, D)."""
        shape = x_TD.shape[-1:]
        if self.weight.ndim == 1:
            return F.layer_norm(x_TD, shape, self.weight, self.bias)
        # torch's operation has one scale and shift. Scaling afterwards takes twice as long, so it is called run by run.
        runs = zip(x_TD.unbind(), self.weight.unbind(), self.bias.unbind(), strict=True)
        return torch.stack([F.layer_norm(run_TD, shape, weight, bias) for run_TD, weight, bias in runs])


class CausalAttention(nn.Module):
    """Multi-head attention in which a token sees itself and the earlier ones of its sequence (Vaswani et al. 2017)."""

    def __init__(self, width: int, sequence: int, generator: torch.Generator) -> None:
        """
        Args:
            width: D, a multiple of `WIDTH_OF_HEAD`.
            sequence: S. Fewer tokens are one sequence.
            generator: draws the weights.
        """
        super().__init__()
        self._sequence = sequence
        self.weight_in = nn.Parameter(linear_init(width, (width, 3 * width), generator))
        self.bias_in = nn.Parameter(torch.zeros(3 * width))
        self.weight_out = nn.Parameter(linear_init(width, (width, width), generator))
        self.bias_out = nn.Parameter(torch.zeros(width))

    def forward(self, x_TD: Tensor) -> Tensor:
        """(..., T, D) → (..., T, D), of T tokens that are sequences one after the other."""
        tokens, width = x_TD.shape[-2:]
        in_rows = linear(x_TD, self.weight_in, self.bias_in)
        heads = in_rows.view(-1, min(self._sequence, tokens), 3, width // WIDTH_OF_HEAD, WIDTH_OF_HEAD)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (N, A, S, D / A) each
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return linear(seen.transpose(1, 2).reshape(x_TD.shape), self.weight_out, self.bias_out)


class Block(nn.Module):
    """A block of the network: something before its MoE layer, and something after it."""

    moe: MoE

    def before(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """(..., T, D) → what goes around the MoE layer, and what goes into it."""
        raise NotImplementedError

    def after(self, around_TD: Tensor, moe_TD: Tensor) -> Tensor:
        """(..., T, D), what went around the MoE layer and its output → the block's output."""
        raise NotImplementedError

    def forward(self, x_TD: Tensor, config: RunConfig, balancing: Balancing, **how: Any) -> tuple[Tensor, Routing]:
        """(..., T, D) → (..., T, D), and the routing, made as `MoE.route` does."""
        around_TD, inner_TD = self.before(x_TD)
        moe_TD, routing = self.moe(inner_TD, config, balancing, **how)
        return self.after(around_TD, moe_TD), routing


class ResidualBlock(Block):
    """LayerNorm(x + MoE(x)), for tokens that stand alone. One that capacity drops takes only the residual path."""

    def __init__(self, config: RunConfig, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.moe = MoE(config, width, generator)

    def before(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        return x_TD, x_TD

    def after(self, around_TD: Tensor, moe_TD: Tensor) -> Tensor:
        return F.layer_norm(around_TD + moe_TD, around_TD.shape[-1:])


class DecoderBlock(Block):
    """x + Attention(LayerNorm(x)), then x + MoE(LayerNorm(x)): a block of a decoder-only transformer, normalized first
    as in GPT-2 and Mixtral."""

    def __init__(self, config: RunConfig, width: int, sequence: int, generator: torch.Generator) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = CausalAttention(width, sequence, generator)
        self.moe_norm = LayerNorm(width)
        self.moe = MoE(config, width, generator)

    def before(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        x_TD = x_TD + self.attention(self.attention_norm(x_TD))
        return x_TD, self.moe_norm(x_TD)

    def after(self, around_TD: Tensor, moe_TD: Tensor) -> Tensor:
        return around_TD + moe_TD
