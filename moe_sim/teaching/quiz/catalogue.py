"""The catalogue of questions."""

from __future__ import annotations

from moe_sim.teaching.quiz.drawn_from_arithmetic import QUESTIONS as FROM_ARITHMETIC
from moe_sim.teaching.quiz.drawn_from_curves import QUESTIONS as FROM_CURVES
from moe_sim.teaching.quiz.drawn_from_loads import QUESTIONS as FROM_LOADS
from moe_sim.teaching.quiz.drawn_from_routing import QUESTIONS as FROM_ROUTING
from moe_sim.teaching.quiz.fixed_beginner import QUESTIONS as BEGINNER
from moe_sim.teaching.quiz.fixed_expert import QUESTIONS as EXPERT
from moe_sim.teaching.quiz.fixed_practitioner import QUESTIONS as PRACTITIONER
from moe_sim.teaching.quiz.question import Drawn, Question, draw

QUESTIONS: tuple[Question, ...] = (
    *BEGINNER, *PRACTITIONER, *EXPERT, *FROM_LOADS, *FROM_CURVES, *FROM_ARITHMETIC, *FROM_ROUTING,
)  # fmt: skip
"""Fixed questions first."""

_BY_KEY = {question.key: question for question in QUESTIONS}


def by_key(key: str) -> Question:
    """Returns the question with this key.

    Raises:
        KeyError: if there is no such question.
    """
    return _BY_KEY[key]


def drawn_by_key(key: str, seed: int) -> Drawn:
    """Draws the question with this key; see `draw`."""
    return draw(by_key(key), seed)
