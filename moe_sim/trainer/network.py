"""The network: a stem, a chain of blocks with an MoE layer each, and a head.

The weights of runs that are computed together have a leading dimension, and so have their tokens (`Network.stack`).
The arithmetic of a run does not depend on its company: its numbers are the same to the last digit.

L layers, T tokens, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from moe_sim.batched import linear
from moe_sim.config.run_config import RunConfig
from moe_sim.router.balancing import Balancing
from moe_sim.router.routing import Routing
from moe_sim.tasks.task import Task, by_content
from moe_sim.trainer.blocks import Block, DecoderBlock, LayerNorm, ResidualBlock
from moe_sim.trainer.moe import MoE, Router, linear_init


class LinearHead(nn.Module):
    """(..., T, D) → (..., T, classes), a linear map."""

    def __init__(self, width: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear_init(width, (width, classes), generator))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x_TD: Tensor) -> Tensor:
        return linear(x_TD, self.weight, self.bias)


class TiedHead(nn.Module):
    """(..., T, D) → (..., T, classes), the products with the embeddings of the stem (Press & Wolf 2017)."""

    def __init__(self, embedding: nn.Parameter) -> None:
        super().__init__()
        self.norm = LayerNorm(embedding.shape[-1])
        self.embedding = embedding

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.norm(x_TD) @ self.embedding.mT


class Network(nn.Module):
    """stem → blocks → head. Tokens that stand alone pass residual blocks; sequences, a decoder-only transformer."""

    def __init__(self, task: Task, config: RunConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.stem = task.stem(generator)
        self._token_ids = getattr(task, "token_ids", by_content)
        blocks: list[Block] = [
            ResidualBlock(config, task.width, generator) if task.sequence is None
            else DecoderBlock(config, task.width, task.sequence, generator)
            for _ in range(config.num_layers)
        ]  # fmt: skip
        self.chain = nn.ModuleList(blocks)
        embedding = getattr(self.stem, "embedding", None) if task.sequence is not None else None
        self.head = LinearHead(task.width, task.classes, generator) if embedding is None else TiedHead(embedding)

    @classmethod
    def stack(cls, networks: Sequence[Self]) -> Self:
        """Returns one network with the weights of all along a leading dimension, copied."""
        columns = zip(*(network.parameters() for network in networks), strict=True)
        return networks[0]._with([torch.stack(column) for column in columns])

    def only(self, indices: np.ndarray) -> Self:
        """Returns a stack of some networks of a stack."""
        return self._with([weight[torch.from_numpy(indices)] for weight in self.parameters()])

    @torch.no_grad()
    def unstack(self, index: int, network: Self) -> None:
        """Brings a network of a stack up to date."""
        torch._foreach_copy_(list[Tensor](network.weights), [whole[index] for whole in self.weights])

    def _with(self, weights: list[Tensor]) -> Self:
        """Returns a copy with other weights."""
        pairs = zip(self.parameters(), weights, strict=True)
        return copy.deepcopy(self, {id(old): nn.Parameter(new.detach()) for old, new in pairs})

    # What follows is asked for in every step, and walking through all modules takes a while.

    @cached_property
    def weights(self) -> list[nn.Parameter]:
        """All parameters."""
        return list(self.parameters())

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks, the one next to the stem first."""
        return cast(list[Block], list(self.chain))

    @cached_property
    def layers(self) -> list[MoE]:
        """The MoE layer of each block."""
        return [block.moe for block in self.blocks]

    @cached_property
    def parts(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the part that can be frozen by itself. The head is everything but routers and experts."""
        parts = {
            "experts": [
                weight
                for moe in self.layers
                for experts in (moe.experts, moe.shared)
                if experts is not None
                for weight in experts.parameters()
            ],
            "router": [weight for moe in self.layers for weight in moe.router.parameters()],
        }
        others = {id(weight) for part in parts.values() for weight in part}
        return parts | {"head": [weight for weight in self.parameters() if id(weight) not in others]}

    def forward(
        self, inputs: Tensor, config: RunConfig, mechanisms: Sequence[Balancing], **how: Any
    ) -> tuple[Tensor, list[Routing]]:
        """Task inputs of T tokens → (..., T, classes) logits, and the routing of each layer under its mechanism, made
        as `MoE.route` does."""
        x_TD, routings = self.stem(inputs), []
        how |= self._tokens(inputs, mechanisms)
        for block, mechanism in zip(self.blocks, mechanisms, strict=True):
            x_TD, routing = block(x_TD, config, mechanism, **how)
            routings.append(routing)
        return self.head(x_TD), routings

    def routings(
        self, inputs: Tensor, config: RunConfig, mechanisms: Sequence[Balancing], **how: Any
    ) -> list[Routing]:  # fmt: skip
        """The routings alone: the experts of the last layer are not computed."""
        found = []
        how |= self._tokens(inputs, mechanisms)
        for moe, x_TD, mechanism in self._inputs_of_layers(inputs, config, mechanisms, **how):
            found.append(moe.route(x_TD, config, mechanism, **how))
        return found

    @torch.no_grad()
    def router_inputs(
        self, inputs: Tensor, config: RunConfig, mechanisms: Sequence[Balancing]
    ) -> Iterator[tuple[Router, Tensor]]:
        """Each router with its (..., T, D) input in inference. A router may be changed before the next one is asked
        for, whose input then depends on it."""
        how = {"inference": True, **self._tokens(inputs, mechanisms)}
        for moe, x_TD, _ in self._inputs_of_layers(inputs, config, mechanisms, **how):
            yield moe.router, x_TD

    def _tokens(self, inputs: Tensor, mechanisms: Sequence[Balancing]) -> dict[str, Tensor]:
        """What each token is, if the mechanisms need it."""
        return {"tokens": self._token_ids(inputs)} if mechanisms[0].needs_tokens else {}

    def _inputs_of_layers(
        self, inputs: Tensor, config: RunConfig, mechanisms: Sequence[Balancing], **how: Any
    ) -> Iterator[tuple[MoE, Tensor, Balancing]]:
        x_TD = self.stem(inputs)
        for number, (block, mechanism) in enumerate(zip(self.blocks, mechanisms, strict=True), start=1):
            around_TD, inner_TD = block.before(x_TD)
            yield block.moe, inner_TD, mechanism
            if number < len(self.blocks):
                x_TD = block.after(around_TD, block.moe(inner_TD, config, mechanism, **how)[0])
