"""The text task: predict the next character of real text. The text ships with CPython, so nothing is downloaded.

Four domains: English prose (the language reference in `pydoc_data`), Python code (sources of standard modules),
Unicode character names, and arithmetic. The last 8 characters are embedded and mapped to the width of the layer.

T tokens, D width.
"""

from __future__ import annotations

import importlib.util
import math
import random
import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from pydoc_data import topics as pydoc_topics
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim.batched import Generators, drawn, linear, number_apart
from moe_sim.config.run_config import RunConfig
from moe_sim.tasks.task import Batch, HeldOut

WIDTH, CONTEXT, EMBEDDING = 48, 8, 16
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
DOMAINS = ("English prose", "Python code", "Unicode names", "arithmetic")
MIXES = {
    "usual": (0.4, 0.3, 0.2, 0.1),
    "even": (0.25, 0.25, 0.25, 0.25),
    "reversed": (0.1, 0.2, 0.3, 0.4),
    "code": (0.1, 0.7, 0.1, 0.1),
    "arithmetic": (0.1, 0.1, 0.1, 0.7),
}
"""The shares of the domains in the data, by the mix's name in `RunConfig.domain_mix`."""
PASSAGE, HELD_OUT_CHARACTERS = 120, 3_000
MODULES = ("argparse", "ast", "calendar", "configparser", "dataclasses", "difflib", "doctest", "enum", "fractions",
           "heapq", "inspect", "ipaddress", "json.decoder", "logging", "optparse", "pathlib", "plistlib", "random",
           "statistics", "tarfile", "textwrap", "typing", "zipfile")  # fmt: skip


class Text:
    """The text task. The corpora are read once per process."""

    width, classes, group_noun = WIDTH, len(ALPHABET), "domain"
    group_names: tuple[str, ...] = DOMAINS
    shift_knobs: tuple[str, ...] = ("domain_mix",)

    def __init__(self, config: RunConfig, task: torch.Generator, held_out: torch.Generator) -> None:
        corpora = [_encode(text) for text in _corpora()]
        held_out_texts = [corpus[-HELD_OUT_CHARACTERS:] for corpus in corpora]
        self._train = Corpus([corpus[:-HELD_OUT_CHARACTERS] for corpus in corpora])
        self._held_out = Corpus(held_out_texts)
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
        return self._train.draw(tokens, shares, generator)

    def held_out_batch(self, tokens: int, shares: Tensor, generator: torch.Generator) -> Batch:
        """Draws positions in the held-out text."""
        return self._held_out.draw(tokens, shares, generator)

    def stem(self, generator: torch.Generator) -> nn.Module:
        """Characters → vectors."""
        return CharacterStem(generator)

    def _passages(self, held_out: list[np.ndarray]) -> HeldOut:
        passages, windows = [], []
        for characters in held_out:
            # Start at the beginning of a line, so that the passage reads well.
            start = CONTEXT + int(np.argmax(characters[CONTEXT:] == 0)) + 1
            text = characters[start : start + PASSAGE]
            passages.append("".join(ALPHABET[i] for i in text))
            windows.append(
                np.lib.stride_tricks.sliding_window_view(characters, CONTEXT + 1)[start - CONTEXT :][:PASSAGE]
            )
        window = torch.from_numpy(np.concatenate(windows)).long()
        groups = torch.arange(len(passages)).repeat_interleave(PASSAGE)
        return HeldOut(Batch(window[:, :CONTEXT], window[:, CONTEXT], groups), passages=tuple(passages))


class Corpus:
    """Encoded texts, one per domain, to draw positions from."""

    def __init__(self, texts: list[np.ndarray]) -> None:
        self._characters = torch.from_numpy(np.concatenate(texts))
        lengths = torch.tensor([len(text) for text in texts])
        self._start = lengths.cumsum(0) - lengths
        self._positions = lengths - CONTEXT

    def draw(self, tokens: int, shares: Tensor, generator: Generators) -> Batch:
        """Draws `tokens` positions, each with the 8 characters before it, with the domains in these shares."""
        groups = drawn(lambda one, share_G: torch.multinomial(share_G, tokens, True, generator=one), generator, shares)
        place = drawn(lambda one, _: torch.rand(tokens, generator=one, dtype=torch.float64), generator, shares)
        first = self._start[groups] + (place * self._positions[groups]).long()
        window = self._characters[first.unsqueeze(-1) + torch.arange(CONTEXT + 1)].long()
        return Batch(window[..., :CONTEXT], window[..., CONTEXT], groups)


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


def _encode(text: str) -> np.ndarray:
    table = {character: index for index, character in enumerate(ALPHABET)}
    return np.array([table[character] for character in text if character in table], dtype=np.uint8)


@lru_cache(maxsize=1)
def _corpora() -> tuple[str, ...]:
    """The four texts, in the order of `DOMAINS`."""
    # The language reference repeats whole sections. Keep each paragraph once, or held-out text would be trained on.
    topics = "\n\n".join(pydoc_topics.topics[name] for name in sorted(pydoc_topics.topics))
    prose = "\n".join(dict.fromkeys(topics.split("\n\n")))
    code = "\n".join(_source(name) for name in MODULES)
    names = [unicodedata.name(chr(point), "") for point in range(sys.maxunicode + 1)]
    names = [name for name in names if name and not name.startswith(("CJK", "HANGUL SYLLABLE", "TANGUT", "NUSHU"))]
    rng = random.Random(0)
    rng.shuffle(names)
    return prose, code, "\n".join(names), _arithmetic(rng)


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""


def _arithmetic(rng: random.Random) -> str:
    """Lines of products and sums such as “417*23=9591;”."""
    lines = []
    for number in range(40_000):
        a, b = rng.randrange(1000), rng.randrange(100)
        lines.append(f"{a}*{b}={a * b};" if number % 2 else f"{a}+{b}={a + b};")
    return "\n".join(lines)
