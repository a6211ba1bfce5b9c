"""Questions about expert collapse. Many take their numbers and charts from runs trained on demand."""

from __future__ import annotations

from moe_sim.teaching.quiz.catalogue import QUESTIONS, by_key
from moe_sim.teaching.quiz.question import Drawn, Option, Plot, Question, draw
from moe_sim.teaching.quiz.score import Score

__all__ = ["QUESTIONS", "Drawn", "Option", "Plot", "Question", "Score", "by_key", "draw"]
