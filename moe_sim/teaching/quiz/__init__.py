"""Questions about expert collapse; many take their numbers and pictures from runs made while the reader waits."""

from __future__ import annotations

from moe_sim.teaching.quiz.catalogue import QUESTIONS, by_key
from moe_sim.teaching.quiz.question import Drawn, Option, Plot, Question, draw
from moe_sim.teaching.quiz.score import Score

__all__ = ["QUESTIONS", "Drawn", "Option", "Plot", "Question", "Score", "by_key", "draw"]
