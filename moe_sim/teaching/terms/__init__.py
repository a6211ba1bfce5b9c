"""The glossary: every term of the app, explained for three levels of reader, and a search for terms in a text."""

from __future__ import annotations

from moe_sim.teaching.level import LEVELS, Level
from moe_sim.teaching.terms.catalogue import TERMS, by_name
from moe_sim.teaching.terms.occurrences import find
from moe_sim.teaching.terms.term import Term

__all__ = ["LEVELS", "TERMS", "Level", "Term", "by_name", "find"]
