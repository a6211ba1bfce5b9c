"""The task interface, and the random streams of a run, which live knobs cannot disturb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from moe_sim.batched import Generators
from moe_sim.config.run_config import RunConfig

STREAMS = ("task", "weights", "data", "noise", "held_out", "evaluation", "start")
"""The independent random streams of a run."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of T tokens; for several runs with a leading dimension."""

    inputs: Tensor
    """(T, …) the input of the stem."""
    labels: Tensor
    """(T,) int64 classes."""
    groups: Tensor
    """(T,) int64, the topic or text domain of each token."""

    def sorted_by_group(self) -> Batch:
        """The same tokens, those of a group one after the other, in their order."""
        order = self.groups.argsort(stable=True)
        return Batch(self.inputs[order], self.labels[order], self.groups[order])


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Tokens that are never trained on, with what the page needs to show their routing."""

    batch: Batch
    positions: np.ndarray | None = None
    """(N, 2) float32, the position of each token on the routing map; None for text."""
    passages: tuple[str, ...] = ()
    """For text: one passage per domain. Their characters, in order, are the N tokens: what each one predicts in the
    text task, what it reads in the language task."""


class Task(Protocol):
    """A source of tokens in groups, with the stem that turns them into vectors."""

    width: int
    classes: int
    group_noun: str
    group_names: tuple[str, ...]
    held_out: HeldOut
    shift_knobs: tuple[str, ...]
    """The live knobs that change the shares of the groups."""
    sequence: int | None
    """The number of tokens that make up a sequence, which attention sees together; None if each token stands alone."""

    @classmethod
    def stack(cls, tasks: Sequence[Self]) -> Self:
        """One task that draws for several runs at once, each as its own does. It only draws training batches."""
        ...

    def shares(self, config: RunConfig) -> Tensor:
        """(G,) the share of each group in the data, under the task's live knobs."""
        ...

    def batch(self, tokens: int, shares: Tensor, generator: Generators) -> Batch:
        """Draws a fresh training batch of `tokens` tokens, for a stack from (R, G) shares with R generators."""
        ...

    def held_out_batch(self, tokens: int, shares: Tensor, generator: torch.Generator) -> Batch:
        """Draws a batch of tokens that are never trained on."""
        ...

    def stem(self, generator: torch.Generator) -> nn.Module:
        """The network before the MoE layer: `Batch.inputs` → (T, width)."""
        ...

    # A task whose tokens come again may have `token_ids`, from `Batch.inputs` to (T,) int64, what each token is.


def by_content(inputs: Tensor) -> Tensor:
    """(..., T, D) float32 → (..., T) int64, a number for each token that depends on all of its vector."""
    factors = 2 * torch.arange(inputs.shape[-1]) + 1
    return (inputs.contiguous().view(torch.int32) * factors).sum(-1)


def generators(seed: int) -> dict[str, torch.Generator]:
    """One generator per stream of `STREAMS`, all derived from `seed` and independent of each other."""
    seeds = [np.random.SeedSequence(seed, spawn_key=(i,)).generate_state(1, np.uint64) for i in range(len(STREAMS))]
    return {name: torch.Generator().manual_seed(int(own[0])) for name, own in zip(STREAMS, seeds, strict=True)}
