"""The course: short lessons, each with a goal that a student reaches in a live run, and a check that reads that run."""

from moe_sim.teaching.course.catalogue import LESSONS, lesson
from moe_sim.teaching.course.lesson import DEPTHS, Criterion, Lesson, Level, passed
from moe_sim.teaching.course.playing import play, reference

__all__ = ["DEPTHS", "LESSONS", "Criterion", "Lesson", "Level", "lesson", "passed", "play", "reference"]
