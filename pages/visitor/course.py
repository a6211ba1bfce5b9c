"""Where a visitor is in the course, and what they have done in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_sim.teaching.course.catalogue import COURSE
from moe_sim.teaching.course.lesson import Chapter, Lesson

PREDICTION = "prediction_"
"""Prefix of the keys under which predictions are kept."""


@dataclass
class CourseProgress:
    """A visitor's way through the course."""

    lesson: Chapter = COURSE[0]
    """The one that is open."""
    begun: Chapter | None = None
    """The lesson that was started last."""
    passed: set[str] = field(default_factory=set)
    """Slugs."""

    def open(self, lesson: Chapter) -> None:
        """Opens a lesson."""
        self.lesson = lesson

    @property
    def trains_live_run(self) -> bool:
        """Whether the open lesson trains the visitor's live run."""
        return isinstance(self.lesson, Lesson)


def prediction_key(lesson: Chapter, number: int) -> str:
    """The key of the widget with the answer to one of the lesson's questions."""
    return f"{PREDICTION}{lesson.slug}_{number}"
