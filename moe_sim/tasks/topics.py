"""The topics task: tokens around topic centres, labelled by one teacher network per topic.

x = LayerNorm(shared + centre[topic] + 0.4·ε), ε ~ N(0, I). All tokens have the component `shared` in common, as hidden
states of real models do; it makes the initial routing lopsided and drives the collapse. The label is
argmax W2[topic]·tanh(W1[topic]·ε): predicting it takes the topic *and* a function of ε, which is what experts are for.

T tokens, D width, G topics, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim.batched import Blocks, Generators, block_size, drawn, number_apart
from moe_sim.config.run_config import RunConfig
from moe_sim.tasks.task import Batch, HeldOut

WIDTH, CLASSES, TEACHER_HIDDEN, HELD_OUT_TOKENS = 32, 16, 16, 400
TOKEN_SPREAD, CENTRE_LENGTH = 0.4, 0.7
TEACHER_IN_STD, TEACHER_OUT_STD = 1.5, 4.0


class Topics:
    """The topics task for one configuration; the module docstring has the formulas."""

    width, classes, group_noun = WIDTH, CLASSES, "topic"
    sequence: int | None = None
    shift_knobs: tuple[str, ...] = ("topic_skew", "topic_shift")

    def __init__(self, config: RunConfig, task: torch.Generator, held_out: torch.Generator) -> None:
        topics, self._sequence = config.num_topics, config.sequence_tokens
        self.group_names = tuple(f"topic {i + 1}" for i in range(topics))
        self.shared_D = config.shared_direction * math.sqrt(WIDTH) * _random_directions(1, task)[0]
        self.centre_GD = CENTRE_LENGTH * math.sqrt(WIDTH) * _random_directions(topics, task)
        self.teacher_in = torch.randn(topics, TEACHER_HIDDEN, WIDTH, generator=task) * TEACHER_IN_STD / math.sqrt(WIDTH)
        self.teacher_out = (
            torch.randn(topics, CLASSES, TEACHER_HIDDEN, generator=task) * TEACHER_OUT_STD / math.sqrt(TEACHER_HIDDEN)
        )
        batch, noise_TD = self._draw(HELD_OUT_TOKENS, self.shares(config), held_out, sequence=1)
        self.held_out = HeldOut(batch, positions=_map_positions(batch.groups.numpy(), noise_TD.numpy(), topics))

    @classmethod
    def stack(cls, tasks: Sequence[Self]) -> Self:
        """See `Task`."""
        together = cls.__new__(cls)
        together._sequence = tasks[0]._sequence
        for name in ("shared_D", "centre_GD", "teacher_in", "teacher_out"):
            setattr(together, name, torch.stack([getattr(task, name) for task in tasks]))
        return together

    def shares(self, config: RunConfig) -> Tensor:
        """The shares of the topics: Zipf's law over their ranks, rotated by `topic_shift`."""
        rank_G = (torch.arange(len(self.group_names), dtype=torch.float64) - config.topic_shift) % len(self.group_names)
        frequency_G = (rank_G + 1) ** -config.topic_skew
        return (frequency_G / frequency_G.sum()).float()

    def batch(self, tokens: int, shares: Tensor, generator: Generators) -> Batch:
        """Draws `tokens` tokens, with the topics in these shares. Those of a sequence have one topic."""
        return self._draw(tokens, shares, generator, self._sequence)[0]

    held_out_batch = batch
    """Every token is drawn fresh, so none was trained on."""

    def stem(self, generator: torch.Generator) -> nn.Module:
        """The identity: tokens are vectors already."""
        return nn.Identity()

    def _draw(self, tokens: int, shares: Tensor, generator: Generators, sequence: int) -> tuple[Batch, Tensor]:
        count = tokens // sequence
        groups = drawn(lambda one, share_G: torch.multinomial(share_G, count, True, generator=one), generator, shares)
        groups = groups.repeat_interleave(sequence, -1) if sequence > 1 else groups
        noise_TD = drawn(lambda one, _: torch.randn(tokens, WIDTH, generator=one), generator, shares)
        topic = number_apart(groups.numpy(), self.centre_GD.shape[-2], 1)
        centre_TD = self.centre_GD.flatten(0, -2)[torch.from_numpy(topic)]
        x_TD = F.layer_norm(self.shared_D.unsqueeze(-2) + centre_TD + TOKEN_SPREAD * noise_TD, (WIDTH,))
        return Batch(x_TD, self._labels(noise_TD, topic), groups), noise_TD

    def _labels(self, noise_TD: Tensor, topic: np.ndarray) -> Tensor:
        teacher_in, teacher_out = self.teacher_in.flatten(0, -3), self.teacher_out.flatten(0, -3)
        size = block_size(topic.shape[-1], self.centre_GD.shape[-2])
        blocks = Blocks(topic.ravel(), len(teacher_in), size)
        noise_BSD = blocks.gather(noise_TD.flatten(0, -2), np.arange(topic.size))
        hidden_BSH = torch.bmm(noise_BSD, blocks.of_groups(teacher_in).transpose(1, 2)).tanh_()
        scores_BSC = torch.bmm(hidden_BSH, blocks.of_groups(teacher_out).transpose(1, 2))
        labels = scores_BSC.flatten(0, 1).max(1).indices
        return labels[torch.from_numpy(blocks.place_N)].view(noise_TD.shape[:-1])


def _random_directions(rows: int, generator: torch.Generator) -> Tensor:
    return F.normalize(torch.randn(rows, WIDTH, generator=generator), dim=1)


def _map_positions(groups: np.ndarray, noise_TD: np.ndarray, topics: int) -> np.ndarray:
    """Topics on a sunflower spiral in the unit disc, each token offset from its topic by two coordinates of its ε."""
    index = np.arange(topics)
    radius, angle = np.sqrt((index + 0.5) / topics), index * np.pi * (3 - np.sqrt(5))
    centre = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return (centre[groups] + noise_TD[:, :2] * 0.22 / np.sqrt(topics)).astype(np.float32)
