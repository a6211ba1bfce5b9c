"""The reader a text is written for: beginner, practitioner or expert."""

from __future__ import annotations

from typing import Literal, get_args

Level = Literal["beginner", "practitioner", "expert"]


LEVELS: tuple[Level, ...] = get_args(Level)
"""From the least to the most experienced reader."""


def by_level(beginner: str, practitioner: str, expert: str) -> dict[Level, str]:
    """Returns one text per level."""
    return {"beginner": beginner, "practitioner": practitioner, "expert": expert}
