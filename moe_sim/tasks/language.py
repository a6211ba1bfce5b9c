"""The language task: a decoder-only transformer predicts every next character of real text; `corpora` has the texts.

Each character is a token, and attention sees the earlier ones of its sequence.

T tokens in N sequences of S, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim.batched import Generators, number_apart
from moe_sim.config.run_config import LANGUAGE_SEQUENCE, RunConfig
from moe_sim.tasks.corpora import ALPHABET, DOMAINS, MIXES, Corpus, decode, encoded_corpora
from moe_sim.tasks.own_text import PARTS, known_text
from moe_sim.tasks.task import Batch, HeldOut

WIDTH = 64
SEQUENCE = LANGUAGE_SEQUENCE
"""S."""
PASSAGE = 2 * SEQUENCE


class Language:
    """The language task."""

    width, classes = WIDTH, len(ALPHABET)
    group_noun: str = "domain"
    group_names: tuple[str, ...] = DOMAINS
    shift_knobs: tuple[str, ...] = ("domain_mix",)
    sequence: int | None = SEQUENCE
    alphabet: str = ALPHABET

    def __init__(self, config: RunConfig, task: torch.Generator, held_out: torch.Generator) -> None:
        """
        Raises:
            InvalidInput: for the key of a text that is not known here.
        """
        self.own_text = None if config.own_text is None else known_text(config.own_text)
        """A visitor's text; it is known as long as this refers to it."""
        if self.own_text is None:
            train, held_out_texts = encoded_corpora()
        else:
            train, held_out_texts, self.alphabet = self.own_text.train, self.own_text.held_out, self.own_text.alphabet
            self.group_noun, self.group_names, self.shift_knobs = "part", PARTS, ()
        self._train, self._held_out = Corpus(train), Corpus(held_out_texts)
        self.held_out = _passages(held_out_texts, self.alphabet)

    @classmethod
    def stack(cls, tasks: Sequence[Self]) -> Self:
        """See `Task`. All have the same texts."""
        return tasks[0]

    def shares(self, config: RunConfig) -> Tensor:
        """The shares of the domains; the quarters of a visitor's text are equal."""
        return torch.tensor(MIXES[config.domain_mix if self.own_text is None else "even"])

    def batch(self, tokens: int, shares: Tensor, generator: Generators) -> Batch:
        """Draws sequences of the training text, each of one domain, with the domains in these shares."""
        return self._batch(self._train, tokens, shares, generator)

    def held_out_batch(self, tokens: int, shares: Tensor, generator: torch.Generator) -> Batch:
        """Draws sequences of the held-out text."""
        return self._batch(self._held_out, tokens, shares, generator)

    @staticmethod
    def token_ids(inputs: Tensor) -> Tensor:
        """(..., T) characters, which are what the tokens are."""
        return inputs

    def stem(self, generator: torch.Generator) -> nn.Module:
        """Characters → vectors."""
        return SequenceStem(generator)

    def _batch(self, corpus: Corpus, tokens: int, shares: Tensor, generator: Generators) -> Batch:
        window, groups = corpus.draw(tokens // SEQUENCE, SEQUENCE, shares, generator)
        return Batch(window[..., :-1].flatten(-2), window[..., 1:].flatten(-2), groups.repeat_interleave(SEQUENCE, -1))


class SequenceStem(nn.Module):
    """The sum of a character's embedding and its position's."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        # The head multiplies by the embedding too: with this length of its rows, logits begin near 1.
        scale = 1 / math.sqrt(WIDTH)
        self.embedding = nn.Parameter(scale * torch.randn(len(ALPHABET), WIDTH, generator=generator))
        self.position = nn.Parameter(scale * torch.randn(SEQUENCE, WIDTH, generator=generator))

    def forward(self, characters: Tensor) -> Tensor:
        """(..., T) int64, sequences one after the other → (..., T, D). Fewer than S tokens are one sequence."""
        row = torch.from_numpy(number_apart(characters.numpy(), len(ALPHABET), 1))
        embedded = F.embedding(row, self.embedding.flatten(0, -2))
        length = min(SEQUENCE, characters.shape[-1])
        sequences = embedded.unflatten(-2, (-1, length)) + self.position[..., :length, :].unsqueeze(-3)
        return sequences.flatten(-3, -2)


def _passages(held_out: list[np.ndarray], alphabet: str) -> HeldOut:
    """A passage of each domain, from the beginning of a line on if there is one early enough."""
    starts = [_start_of_line(characters, alphabet) for characters in held_out]
    windows = [characters[start:][: PASSAGE + 1] for characters, start in zip(held_out, starts, strict=True)]
    inputs, labels = (torch.from_numpy(np.concatenate(part)).long() for part in (
        [window[:-1] for window in windows], [window[1:] for window in windows],
    ))  # fmt: skip
    groups = torch.arange(len(windows)).repeat_interleave(PASSAGE)
    return HeldOut(Batch(inputs, labels, groups), passages=tuple(decode(window[:-1], alphabet) for window in windows))


def _start_of_line(characters: np.ndarray, alphabet: str) -> int:
    ends = np.flatnonzero(characters[: len(characters) - PASSAGE - 1] == alphabet.find("\n"))
    return int(ends[0]) + 1 if len(ends) else 0
