"""The text task: predict the next character of real text from the last 8 characters, which are embedded and mapped to
the width of the layer. Each character is a token that stands alone; `corpora` has the texts.

T tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim.batched import Generators, linear, number_apart
from moe_sim.config.run_config import RunConfig
from moe_sim.tasks.corpora import ALPHABET, DOMAINS, MIXES, Corpus, decode, encoded_corpora
from moe_sim.tasks.task import Batch, HeldOut

WIDTH, CONTEXT, EMBEDDING = 48, 8, 16
PASSAGE = 120


class Text:
    """The text task. The corpora are read once per process."""

    width, classes, group_noun = WIDTH, len(ALPHABET), "domain"
    sequence: int | None = None
    group_names: tuple[str, ...] = DOMAINS
    shift_knobs: tuple[str, ...] = ("domain_mix",)

    def __init__(self, config: RunConfig, task: torch.Generator, held_out: torch.Generator) -> None:
        train, held_out_texts = encoded_corpora()
        self._train, self._held_out = Corpus(train), Corpus(held_out_texts)
        self.held_out = self._passages(held_out_texts)

    @classmethod
    def stack(cls, tasks: Sequence[Self]) -> Self:
        """See `Task`. All have the same corpora."""
        return tasks[0]

    def shares(self, config: RunConfig) -> Tensor:
        """The shares of the domains."""
        return torch.tensor(MIXES[config.domain_mix])

    def batch(self, tokens: int, shares: Tensor, generator: Generators) -> Batch:
        """Draws `tokens` positions in the training text, with the domains in these shares."""
        return self._batch(self._train, tokens, shares, generator)

    def held_out_batch(self, tokens: int, shares: Tensor, generator: torch.Generator) -> Batch:
        """Draws positions in the held-out text."""
        return self._batch(self._held_out, tokens, shares, generator)

    @staticmethod
    def token_ids(inputs: Tensor) -> Tensor:
        """(..., T, C) contexts → (..., T), their last characters."""
        return inputs[..., -1]

    def stem(self, generator: torch.Generator) -> nn.Module:
        """Characters → vectors."""
        return CharacterStem(generator)

    @staticmethod
    def _batch(corpus: Corpus, tokens: int, shares: Tensor, generator: Generators) -> Batch:
        """Each token is a window of 8 characters, labelled with the one that follows."""
        window, groups = corpus.draw(tokens, CONTEXT, shares, generator)
        return Batch(window[..., :CONTEXT], window[..., CONTEXT], groups)

    def _passages(self, held_out: list[np.ndarray]) -> HeldOut:
        passages, windows = [], []
        for characters in held_out:
            # Start at the beginning of a line, so that the passage reads well.
            start = CONTEXT + int(np.argmax(characters[CONTEXT:] == 0)) + 1
            passages.append(decode(characters[start : start + PASSAGE]))
            windows.append(
                np.lib.stride_tricks.sliding_window_view(characters, CONTEXT + 1)[start - CONTEXT :][:PASSAGE]
            )
        window = torch.from_numpy(np.concatenate(windows)).long()
        groups = torch.arange(len(passages)).repeat_interleave(PASSAGE)
        return HeldOut(Batch(window[:, :CONTEXT], window[:, CONTEXT], groups), passages=tuple(passages))


class CharacterStem(nn.Module):
    """The last 8 characters → embedding 16 each → linear to D → GELU → LayerNorm."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(len(ALPHABET), EMBEDDING, generator=generator))
        bound = 1 / math.sqrt(CONTEXT * EMBEDDING)
        weight = torch.empty(CONTEXT * EMBEDDING, WIDTH)
        self.weight = nn.Parameter(nn.init.uniform_(weight, -bound, bound, generator))
        self.bias = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, characters: Tensor) -> Tensor:
        """(..., T, 8) int64 → (..., T, D)."""
        row = torch.from_numpy(number_apart(characters.numpy(), len(ALPHABET), 2))
        embedded = F.embedding(row, self.embedding.flatten(0, -2)).flatten(-2)
        return F.layer_norm(F.gelu(linear(embedded, self.weight, self.bias)), (WIDTH,))
