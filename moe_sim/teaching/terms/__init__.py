"""Every term that the app uses, explained for three kinds of readers, and where a text uses it."""

from __future__ import annotations

from moe_sim.teaching.level import LEVELS, Level
from moe_sim.teaching.terms.catalogue import TERMS, by_name
from moe_sim.teaching.terms.occurrences import find
from moe_sim.teaching.terms.term import Term

__all__ = ["LEVELS", "TERMS", "Level", "Term", "by_name", "find"]
