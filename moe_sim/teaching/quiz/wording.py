"""Numbers in words, and sheets made of numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moe_sim.teaching.quiz.question import Option, Plot, Sheet

Answer = tuple[str, str]
"""The text of an option and why it is right or wrong."""
MOST_WRONG = 3


def percent(share: float, digits: int = 0) -> str:
    """0.125 → 13\u00a0%, or 12.5\u00a0% with one digit."""
    return f"{100 * share:.{digits}f}\u00a0%"


def listed(values: Iterable[float], digits: int = 0) -> str:
    """Numbers with commas between them."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def bars(shares: Iterable[float] | np.ndarray, label: str, even: float | None = None) -> Plot:
    """Shares as bars in percent, with a line at the even share."""
    return Plot(
        "bars", tuple(round(100 * float(share), 1) for share in shares), label, None if even is None else 100 * even
    )


def line(values: Iterable[float] | np.ndarray, label: str, reference: float | None = None) -> Plot:
    """A curve over steps."""
    return Plot("line", tuple(round(float(value), 4) for value in values), label, reference)


def sheet_of(text: str, right: Answer, wrong: Iterable[Answer], *plots: Plot) -> Sheet | None:
    """A sheet of options that all differ: wrong ones that read like an earlier one are left out, and at most three are
    kept. None if fewer than two remain."""
    taken: set[str] = {right[0]}
    kept: list[Option] = []
    for answer in wrong:
        if answer[0] not in taken and len(kept) < MOST_WRONG:
            taken.add(answer[0])
            kept.append(Option(*answer))
    return Sheet(text, Option(*right), tuple(kept), plots) if len(kept) >= 2 else None
