"""Where a text uses a term, so that a page can underline it there."""

from __future__ import annotations

import re
from functools import lru_cache

from moe_sim.teaching.level import Level
from moe_sim.teaching.terms.catalogue import TERMS
from moe_sim.teaching.terms.term import Term, is_symbol


def find(text: str, level: Level) -> list[tuple[int, int, Term]]:
    """The terms that a text should underline for readers of a level.

    The longest name wins: “load-balancing loss” holds no occurrence of “load”. Words match in any case, with or without
    a plural ending, and with a space for a hyphen or the other way round; symbols match exactly. Nothing matches inside
    a word or a compound with a hyphen.

    Args:
        text: plain text.
        level: whom it is shown to.

    Returns:
        (start, end, term) in the order of the text, without overlaps, only the first occurrence of each term.
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
    """One alternative for each name, longest first, and the term of each."""
    names = sorted(((name, term) for term in TERMS for name in term.names), key=lambda item: -len(item[0]))
    alternatives = "|".join(f"({_alternative(name)})" for name, _ in names)
    return re.compile(rf"(?<![\w-])(?:{alternatives})(?!\w|-\w)"), [term for _, term in names]


def _alternative(name: str) -> str:
    if is_symbol(name):
        return re.escape(name)
    words = r"[\s-]".join(re.escape(word) for word in re.split(r"[\s-]", name))
    return f"(?i:{words}(?:s|es)?)"
