"""The course: short lessons, each with a goal to reach in a live run and a check that reads that run."""

from moe_sim.teaching.course.catalogue import COURSE, LESSONS, lesson
from moe_sim.teaching.course.lesson import Criterion, Lesson, Reference, passed
from moe_sim.teaching.course.playing import play, reference_loss

__all__ = ["COURSE", "LESSONS", "Criterion", "Lesson", "Reference", "lesson", "passed", "play", "reference_loss"]
