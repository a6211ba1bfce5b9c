"""What a task is, and how a run's randomness is split so that live knobs cannot disturb it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from moe_sim.config.run_config import RunConfig

STREAMS = ("task", "weights", "data", "noise", "held_out", "evaluation")
"""The independent sources of randomness of a run."""


@dataclass(frozen=True)
class Batch:
    """T tokens to learn from."""

    inputs: Tensor
    """(T, …) what the stem takes."""
    labels: Tensor
    """(T,) int64 classes."""
    groups: Tensor
    """(T,) int64, the topic or text domain of each token."""


@dataclass(frozen=True)
class HeldOut:
    """Tokens that are never trained on, with the picture in which their routing is shown."""

    batch: Batch
    positions: np.ndarray | None = None
    """(N, 2) float32, where each token stands on the routing map; None where the tokens are text."""
    passages: tuple[str, ...] = ()
    """For text: a passage of each domain; the characters of all of them, in order, are the N labels."""


class Task(Protocol):
    """A source of tokens in groups, and the first layer that turns them into vectors."""

    width: int
    classes: int
    group_noun: str
    group_names: tuple[str, ...]
    held_out: HeldOut
    shift_knobs: tuple[str, ...]
    """The live knobs that shift the shares of the groups."""

    def shares(self, config: RunConfig) -> Tensor:
        """(G,) the share of each group in the data, which live knobs of the task may move."""
        ...

    def batch(self, tokens: int, shares: Tensor, generator: torch.Generator) -> Batch:
        """Draw a fresh batch of `tokens` tokens to train on."""
        ...

    def held_out_batch(self, tokens: int, shares: Tensor, generator: torch.Generator) -> Batch:
        """Draw tokens that are never trained on."""
        ...

    def stem(self, generator: torch.Generator) -> nn.Module:
        """The network before the MoE layer: `Batch.inputs` → (T, width)."""
        ...


def generators(seed: int) -> dict[str, torch.Generator]:
    """One generator for each of `STREAMS`, all derived from `seed` and independent of each other."""
    seeds = [np.random.SeedSequence(seed, spawn_key=(i,)).generate_state(1, np.uint64) for i in range(len(STREAMS))]
    return {name: torch.Generator().manual_seed(int(own[0])) for name, own in zip(STREAMS, seeds, strict=True)}
