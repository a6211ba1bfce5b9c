"""The reader's score."""

from __future__ import annotations

from dataclasses import dataclass

from moe_sim.teaching.level import Level


@dataclass(frozen=True)
class Score:
    """The answers so far. Immutable; `add` returns a new score."""

    answers: tuple[tuple[Level, bool], ...] = ()
    """The level of each question and whether the answer was correct, in order."""

    def add(self, level: Level, correct: bool) -> Score:
        """Returns the score after one more answer."""
        return Score((*self.answers, (level, correct)))

    @property
    def right(self) -> int:
        """The number of right answers."""
        return sum(correct for _, correct in self.answers)

    @property
    def wrong(self) -> int:
        """The number of wrong answers."""
        return len(self.answers) - self.right

    def at(self, level: Level) -> Score:
        """Returns the score of one level."""
        return Score(tuple(answer for answer in self.answers if answer[0] == level))
