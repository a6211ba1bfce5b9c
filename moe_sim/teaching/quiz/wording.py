"""Formatting of numbers, and helpers to build sheets."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moe_sim.teaching.quiz.question import Option, Plot, Sheet

Answer = tuple[str, str]
"""An option's text and explanation."""
MOST_WRONG = 3


def percent(share: float, digits: int = 0) -> str:
    """Formats a share: 0.125 → 12\u00a0%, or 12.5\u00a0% with one digit."""
    return f"{100 * share:.{digits}f}\u00a0%"


def listed(values: Iterable[float], digits: int = 0) -> str:
    """Formats numbers as a comma-separated list."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def bars(shares: Iterable[float] | np.ndarray, label: str, even: float | None = None) -> Plot:
    """A bar chart of shares in percent, with a line at the even share."""
    return Plot(
        "bars", tuple(round(100 * float(share), 1) for share in shares), label, None if even is None else 100 * even
    )


def line(values: Iterable[float] | np.ndarray, label: str, reference: float | None = None) -> Plot:
    """A line chart over steps."""
    return Plot("line", tuple(round(float(value), 4) for value in values), label, reference)


def sheet_of(text: str, right: Answer, wrong: Iterable[Answer], *plots: Plot) -> Sheet | None:
    """Returns a sheet of distinct options: skips wrong ones whose text repeats an earlier one and keeps at most three.
    None if fewer than two remain."""
    taken: set[str] = {right[0]}
    kept: list[Option] = []
    for answer in wrong:
        if answer[0] not in taken and len(kept) < MOST_WRONG:
            taken.add(answer[0])
            kept.append(Option(*answer))
    return Sheet(text, Option(*right), tuple(kept), plots) if len(kept) >= 2 else None
