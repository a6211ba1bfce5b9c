"""The definition of a question, and how to draw one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from moe_sim.teaching.level import Level

ATTEMPTS = 40
"""Seeds to try before giving up. No question has needed more than a few."""


@dataclass(frozen=True)
class Plot:
    """Numbers for a small chart: one bar per expert, or a line over steps."""

    kind: Literal["bars", "line"]
    values: tuple[float, ...]
    label: str
    """The quantity and its unit."""
    reference: float | None = None
    """The height of a dotted line, usually the even share."""


@dataclass(frozen=True)
class Option:
    """One possible answer."""

    text: str
    explanation: str
    """Why it is right or wrong."""
    plot: Plot | None = None


@dataclass(frozen=True)
class Sheet:
    """A question with its numbers filled in and its options not yet shuffled."""

    text: str
    right: Option
    wrong: tuple[Option, ...]
    plots: tuple[Plot, ...] = ()


Compose = Callable[[random.Random, int], Sheet | None]
"""Takes a random generator and the seed for runs; returns None if the result does not suit the question."""


@dataclass(frozen=True)
class Question:
    """A question for one level. A fixed question has a sheet, a drawn one a function that composes it."""

    key: str
    level: Level
    topics: tuple[str, ...]
    """Names in `moe_sim.teaching.terms`."""
    sheet: Sheet | Compose

    @property
    def is_drawn(self) -> bool:
        """Whether its numbers are computed when it is drawn."""
        return not isinstance(self.sheet, Sheet)


@dataclass(frozen=True)
class Drawn:
    """A question as shown to the reader."""

    question: Question
    seed: int
    text: str
    plots: tuple[Plot, ...]
    """Charts of the question itself."""
    options: tuple[Option, ...]
    right: int
    """Index of the right option."""


def draw(question: Question, seed: int) -> Drawn:
    """Draw a question. The same seed gives the same numbers, options and order.

    Args:
        question: one of `QUESTIONS`.
        seed: 0 or more. If the result of a seed does not suit the question, the next seed is tried.

    Raises:
        LookupError: if none of `ATTEMPTS` seeds suits the question.
    """
    for attempt in range(ATTEMPTS):
        rng = random.Random(f"{question.key} {seed} {attempt}")
        sheet = question.sheet if isinstance(question.sheet, Sheet) else question.sheet(rng, seed + attempt)
        if sheet is not None:
            options = [sheet.right, *sheet.wrong]
            rng.shuffle(options)
            return Drawn(question, seed, sheet.text, sheet.plots, tuple(options), options.index(sheet.right))
    raise LookupError(f"no seed from {seed} to {seed + ATTEMPTS - 1} suits the question {question.key!r}")
