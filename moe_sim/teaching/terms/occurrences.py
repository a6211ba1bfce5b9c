"""Finds the terms in a text, so that a page can underline them."""

from __future__ import annotations

import re
from functools import lru_cache

from moe_sim.teaching.level import Level
from moe_sim.teaching.terms.catalogue import TERMS
from moe_sim.teaching.terms.term import Term, is_symbol


def find(text: str, level: Level) -> list[tuple[int, int, Term]]:
    """Finds the terms to underline in a text for readers of one level.

    The longest name wins: “load-balancing loss” contains no occurrence of “load”. Words match in any case, with or
    without a plural ending, and with spaces and hyphens exchanged; symbols match exactly. Nothing matches inside a word
    or a hyphenated compound.

    Args:
        text: plain text.
        level: the level of the reader.

    Returns:
        (start, end, term) in text order, without overlaps, only the first occurrence of each term.
    """
    pattern, terms = _pattern()
    found, seen = [], set()
    for match in pattern.finditer(text):
        term = terms[(match.lastindex or 0) - 1]
        if term.name not in seen and term.explained_to(level):
            found.append((match.start(), match.end(), term))
        seen.add(term.name)
    return found


@lru_cache(maxsize=1)
def _pattern() -> tuple[re.Pattern[str], list[Term]]:
    """Returns a pattern with one group per name, longest first, and the term of each group."""
    names = sorted(((name, term) for term in TERMS for name in term.names), key=lambda item: -len(item[0]))
    alternatives = "|".join(f"({_alternative(name)})" for name, _ in names)
    return re.compile(rf"(?<![\w-])(?:{alternatives})(?!\w|-\w)"), [term for _, term in names]


def _alternative(name: str) -> str:
    if is_symbol(name):
        return re.escape(name)
    words = r"[\s-]".join(re.escape(word) for word in re.split(r"[\s-]", name))
    return f"(?i:{words}(?:s|es)?)"
