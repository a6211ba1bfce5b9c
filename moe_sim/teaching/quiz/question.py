"""What a question is, and how it is put to somebody."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from moe_sim.teaching.level import Level

ATTEMPTS = 40
"""Seeds that are tried before a question gives up: none has needed more than a few."""


@dataclass(frozen=True)
class Plot:
    """Plain numbers to be drawn beside a text: bars for loads, one per expert, or a line over steps."""

    kind: Literal["bars", "line"]
    values: tuple[float, ...]
    label: str
    """What the numbers are, with their unit."""
    reference: float | None = None
    """Where a dotted line helps the eye: the even share."""


@dataclass(frozen=True)
class Option:
    """One answer to choose."""

    text: str
    explanation: str
    """Why it is right, or why not."""
    plot: Plot | None = None


@dataclass(frozen=True)
class Sheet:
    """A question with its numbers filled in, its options not yet shuffled."""

    text: str
    right: Option
    wrong: tuple[Option, ...]
    plots: tuple[Plot, ...] = ()


Compose = Callable[[random.Random, int], Sheet | None]
"""Random choices, the seed for runs → a sheet; None where what came out does not make the question."""


@dataclass(frozen=True)
class Question:
    """A question for readers of a level. Fixed ones hold their sheet, drawn ones know how to make one."""

    key: str
    level: Level
    topics: tuple[str, ...]
    """Names in `moe_sim.teaching.terms`."""
    sheet: Sheet | Compose

    @property
    def is_drawn(self) -> bool:
        """Whether its numbers come from computing."""
        return not isinstance(self.sheet, Sheet)


@dataclass(frozen=True)
class Drawn:
    """A question as it is shown."""

    question: Question
    seed: int
    text: str
    plots: tuple[Plot, ...]
    """Pictures that belong to the question itself."""
    options: tuple[Option, ...]
    right: int
    """Index of the right option."""


def draw(question: Question, seed: int) -> Drawn:
    """Put a question: the same seed gives the same numbers, options and order.

    Args:
        question: one of `QUESTIONS`.
        seed: 0 or more. Where what a seed gives does not show what the question is about, the next one is tried.

    Raises:
        LookupError: if none of `ATTEMPTS` seeds makes the question.
    """
    for attempt in range(ATTEMPTS):
        chance = random.Random(f"{question.key} {seed} {attempt}")
        sheet = question.sheet if isinstance(question.sheet, Sheet) else question.sheet(chance, seed + attempt)
        if sheet is not None:
            options = [sheet.right, *sheet.wrong]
            chance.shuffle(options)
            return Drawn(question, seed, sheet.text, sheet.plots, tuple(options), options.index(sheet.right))
    raise LookupError(f"no seed from {seed} to {seed + ATTEMPTS - 1} makes the question {question.key!r}")
