"""The course: short lessons, each a goal that a student reaches in a live run and a check that reads that run."""

from moe_sim.course.alpha import CHOOSE, TOO_LATE
from moe_sim.course.beyond import MECHANISMS, Z_LOSS
from moe_sim.course.collapse import RESCUE, WATCH, WHY
from moe_sim.course.data import SHIFTED, TEXT
from moe_sim.course.lesson import DEPTHS, Criterion, Depth, Lesson, passed
from moe_sim.course.noise import NOISE
from moe_sim.course.playing import play, reference
from moe_sim.course.routing import CAPACITY, TOP_K

LESSONS: tuple[Lesson, ...] = (
    WATCH, WHY, RESCUE, CHOOSE, TOO_LATE, CAPACITY, TOP_K, NOISE, Z_LOSS, MECHANISMS, TEXT, SHIFTED,
)  # fmt: skip
"""All lessons, in their order."""


def lesson(slug: str) -> Lesson:
    """The lesson of that name.

    Raises:
        KeyError: if there is none.
    """
    return {one.slug: one for one in LESSONS}[slug]


__all__ = ["DEPTHS", "LESSONS", "Criterion", "Depth", "Lesson", "lesson", "passed", "play", "reference"]
