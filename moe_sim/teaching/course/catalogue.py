"""The catalogue of lessons."""

from __future__ import annotations

from moe_sim.teaching.course.alpha import CHOOSE, TOO_LATE
from moe_sim.teaching.course.beyond import MECHANISMS, Z_LOSS
from moe_sim.teaching.course.collapse import RESCUE, WATCH, WHY
from moe_sim.teaching.course.data import SHIFTED, TEXT
from moe_sim.teaching.course.layers import DIFFER, LUMPED
from moe_sim.teaching.course.lesson import Chapter, Lesson
from moe_sim.teaching.course.noise import NOISE
from moe_sim.teaching.course.routing import CAPACITY, TOP_K
from moe_sim.teaching.course.today import SCOPE, SHARED, SIGMOID
from moe_sim.teaching.course.which_loop import WHICH_LOOP
from moe_sim.teaching.course.your_own_model import YOUR_MODEL

COURSE: tuple[Chapter, ...] = (
    WATCH, WHY, WHICH_LOOP, RESCUE, CHOOSE, TOO_LATE, CAPACITY, TOP_K, NOISE, Z_LOSS, MECHANISMS, SCOPE, SHARED,
    SIGMOID, DIFFER, LUMPED, TEXT, SHIFTED, YOUR_MODEL,
)  # fmt: skip
"""In course order."""
LESSONS = tuple(one for one in COURSE if isinstance(one, Lesson))
"""The lessons that train one live run."""


def lesson(slug: str) -> Lesson:
    """Returns the lesson with this slug.

    Raises:
        KeyError: if there is no such lesson.
    """
    return {one.slug: one for one in LESSONS}[slug]
