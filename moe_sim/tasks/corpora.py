"""The texts of the text tasks, which ship with CPython, so nothing is downloaded.

Four domains: English prose (the language reference in `pydoc_data`), Python code (sources of standard modules),
Unicode character names, and arithmetic.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from pydoc_data import topics as pydoc_topics

import numpy as np
import torch
from torch import Tensor

from moe_sim.batched import Generators, drawn

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
DOMAINS = ("English prose", "Python code", "Unicode names", "arithmetic")
MIXES = {
    "usual": (0.4, 0.3, 0.2, 0.1),
    "even": (0.25, 0.25, 0.25, 0.25),
    "reversed": (0.1, 0.2, 0.3, 0.4),
    "code": (0.1, 0.7, 0.1, 0.1),
    "arithmetic": (0.1, 0.1, 0.1, 0.7),
    "prose": (1.0, 0.0, 0.0, 0.0),
}
"""The shares of the domains in the data, by the mix's name in `RunConfig.domain_mix`."""
HELD_OUT_CHARACTERS = 3_000
"""At the end of each text, never trained on."""
MODULES = ("argparse", "ast", "calendar", "configparser", "dataclasses", "difflib", "doctest", "enum", "fractions",
           "heapq", "inspect", "ipaddress", "json.decoder", "logging", "optparse", "pathlib", "plistlib", "random",
           "statistics", "tarfile", "textwrap", "typing", "zipfile")  # fmt: skip


class Corpus:
    """Encoded texts, one per domain, to draw windows from."""

    def __init__(self, texts: list[np.ndarray]) -> None:
        self._characters = torch.from_numpy(np.concatenate(texts))
        self._lengths = torch.tensor([len(text) for text in texts])
        self._start = self._lengths.cumsum(0) - self._lengths

    def draw(self, count: int, length: int, shares: Tensor, generator: Generators) -> tuple[Tensor, Tensor]:
        """Draws windows of `length` characters and the one that follows, with the domains in these shares.

        Returns:
            (count, length + 1) int64 characters, and (count,) int64 domains; for several generators with a leading
            dimension.
        """
        groups = drawn(lambda one, share_G: torch.multinomial(share_G, count, True, generator=one), generator, shares)
        place = drawn(lambda one, _: torch.rand(count, generator=one, dtype=torch.float64), generator, shares)
        first = self._start[groups] + (place * (self._lengths - length)[groups]).long()
        return self._characters[first.unsqueeze(-1) + torch.arange(length + 1)].long(), groups


def encode(text: str, alphabet: str = ALPHABET) -> np.ndarray:
    """The characters of a text as indices into an alphabet; others are left out."""
    table = {character: index for index, character in enumerate(alphabet)}
    return np.array([table[character] for character in text if character in table], dtype=np.uint8)


def decode(characters: Iterable[int], alphabet: str = ALPHABET) -> str:
    """The text of indices into an alphabet."""
    return "".join(alphabet[index] for index in characters)


@lru_cache(maxsize=1)
def encoded_corpora() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The four texts for training and those held out, in the order of `DOMAINS`; read once per process."""
    whole = [encode(text) for text in corpora()]
    return [one[:-HELD_OUT_CHARACTERS] for one in whole], [one[-HELD_OUT_CHARACTERS:] for one in whole]


@lru_cache(maxsize=1)
def corpora() -> tuple[str, ...]:
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
