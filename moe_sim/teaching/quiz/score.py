"""How somebody is doing."""

from __future__ import annotations

from dataclasses import dataclass

from moe_sim.teaching.level import Level


@dataclass(frozen=True)
class Score:
    """The answers so far. Immutable: `add` returns a new score."""

    answers: tuple[tuple[Level, bool], ...] = ()
    """The level of each question and whether it was answered rightly, in order."""

    def add(self, level: Level, correct: bool) -> Score:
        """The score after one more answer."""
        return Score((*self.answers, (level, correct)))

    @property
    def right(self) -> int:
        """Right answers."""
        return sum(correct for _, correct in self.answers)

    @property
    def wrong(self) -> int:
        """Wrong answers."""
        return len(self.answers) - self.right

    def at(self, level: Level) -> Score:
        """The part of it that concerns one level."""
        return Score(tuple(answer for answer in self.answers if answer[0] == level))
