"""Where a visitor is in the museum: the exhibit that is open, and those that were solved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from moe_sim.teaching.museum.catalogue import EXHIBITS
from moe_sim.teaching.museum.exhibit import Exhibit
from pages.visitor.widgets import one_of

ANSWER = "exhibit_answer_"
"""Prefix of the keys under which answers are kept."""
NUMBERS = tuple(str(number) for number in range(1, len(EXHIBITS) + 1))


@dataclass
class MuseumVisit:
    """A visitor's way through the museum."""

    exhibit: Exhibit = EXHIBITS[0]
    """The one that is open."""
    solved: set[str] = field(default_factory=set)
    """The mistakes that were named."""
    given_up: set[str] = field(default_factory=set)
    """The mistakes that were shown on request."""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> MuseumVisit:
        """Opens the exhibit that a link names, or the first one."""
        return cls(EXHIBITS[int(one_of(query.get("exhibit"), NUMBERS, NUMBERS[0])) - 1])

    def open(self, exhibit: Exhibit) -> None:
        """Opens an exhibit."""
        self.exhibit = exhibit

    @property
    def number(self) -> int:
        """The number of the open exhibit, from 1."""
        return EXHIBITS.index(self.exhibit) + 1


def answer_key(exhibit: Exhibit) -> str:
    """The key of the widget with the answer to an exhibit."""
    return f"{ANSWER}{EXHIBITS.index(exhibit)}"
