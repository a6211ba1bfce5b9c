"""What a visitor was asked in the quiz, and what they answered."""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_sim.teaching.quiz.catalogue import QUESTIONS
from moe_sim.teaching.quiz.question import Drawn, Question
from moe_sim.teaching.quiz.score import Score


@dataclass
class QuizProgress:
    """A visitor's quiz so far."""

    score: Score = field(default_factory=Score)
    asked: list[str] = field(default_factory=list)
    """The keys of the last questions."""
    next: tuple[Question, int] | None = None
    """The question that is being drawn, with its seed."""
    drawn: Drawn | None = None
    """The question on the screen; None if the next one is wanted."""
    answer: int | None = None
    """The index of the option that the visitor chose."""
    number: int = 0
    """How many questions were shown."""

    def choose(self, question: Question, seed: int) -> tuple[Question, int]:
        """Makes a question the next one. Returns it with its seed."""
        self.next = question, seed
        self.asked = [*self.asked, question.key][-len(QUESTIONS) // 2 :]
        return self.next

    def show(self, drawn: Drawn) -> None:
        """Puts the next question on the screen."""
        self.drawn, self.answer, self.next = drawn, None, None
        self.number += 1

    def answer_with(self, option: int) -> None:
        """Counts the answer, if it is the first one."""
        if self.answer is None and self.drawn is not None:
            self.answer = option
            self.score = self.score.add(self.drawn.question.level, option == self.drawn.right)

    def go_on(self) -> None:
        """Asks for the next question."""
        self.drawn = None
