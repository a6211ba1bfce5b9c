"""The definition of a glossary term, and the readers it is explained to."""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_sim.teaching.level import LEVELS, Level
from moe_sim.teaching.other_names import KNOB_NAMES, METRICS

LONGEST_SYMBOL = 2
"""Characters. A name of at most this length is a formula symbol: α, f, P, CV."""


@dataclass(frozen=True)
class Term:
    """A glossary term. Texts and formulas are plain Unicode."""

    name: str
    aliases: tuple[str, ...]
    """Other words and symbols for the term. Plurals need no alias; symbols are case-sensitive."""
    level: Level
    """The most experienced reader for whom a page underlines the term. More experienced readers know it."""
    short: str
    """One sentence, for the tooltip."""
    deep: dict[Level, str] = field(hash=False)
    """One explanation per level, each complete in itself."""
    formula: str = ""
    elsewhere: str = ""
    """Names in other tools."""
    see: tuple[str, ...] = ()
    """Names of related terms."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)

    def explained_to(self, level: Level) -> bool:
        """Whether a page for readers of this level underlines the term."""
        return LEVELS.index(level) <= LEVELS.index(self.level)


def is_symbol(name: str) -> bool:
    """Whether a name is a formula symbol rather than a word."""
    return len(name) <= LONGEST_SYMBOL


def other_names(entry: str) -> str:
    """Returns the names of a load statistic or knob in other tools, from `moe_sim.teaching.other_names`.

    Raises:
        KeyError: if there is no such entry.
    """
    return _OTHER_NAMES[entry]


_OTHER_NAMES = {metric.name: metric.elsewhere for metric in METRICS} | dict(KNOB_NAMES)
