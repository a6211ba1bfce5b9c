"""What a term is, and whom it is explained to."""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_sim.teaching.level import LEVELS, Level
from moe_sim.teaching.other_names import KNOB_NAMES, METRICS

LONGEST_SYMBOL = 2
"""Characters. A name up to this long is a symbol of a formula: α, f, P, CV."""


@dataclass(frozen=True)
class Term:
    """A word of the field. Texts are plain; formulas are plain Unicode too."""

    name: str
    aliases: tuple[str, ...]
    """Other words and symbols for the same thing. Plurals need no alias; a symbol is matched in its exact case."""
    level: Level
    """The most experienced reader for whom a page underlines the term; those beyond know it."""
    short: str
    """One sentence, for hovering."""
    deep: dict[Level, str] = field(hash=False)
    """The explanation for each kind of reader, each complete in itself."""
    formula: str = ""
    elsewhere: str = ""
    """What other tools call it."""
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
    """Whether a name is a symbol of a formula rather than a word."""
    return len(name) <= LONGEST_SYMBOL


def other_names(entry: str) -> str:
    """What `moe_sim.teaching.other_names` says about the names of a load statistic or knob in other tools.

    Raises:
        KeyError: if it does not know the entry.
    """
    return _OTHER_NAMES[entry]


_OTHER_NAMES = {metric.name: metric.elsewhere for metric in METRICS} | dict(KNOB_NAMES)
