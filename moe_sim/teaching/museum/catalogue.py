"""The exhibits, in the order of the museum."""

from __future__ import annotations

from moe_sim.teaching.museum.elsewhere import (
    CONSTANT_WEIGHT,
    FIRST_CHOICES_ONLY,
    LIMITED_EVALUATION,
    NOISY_EVALUATION,
)
from moe_sim.teaching.museum.exhibit import Exhibit
from moe_sim.teaching.museum.in_the_loss import (
    CHOSEN_ONLY,
    DETACHED,
    LUMPED,
    NEVER_ADDED,
    NOT_DIVIDED,
    SOFTMAX_TWICE,
    SUMMED,
)

EXHIBITS: tuple[Exhibit, ...] = (
    DETACHED, CONSTANT_WEIGHT, NOT_DIVIDED, LUMPED, NOISY_EVALUATION, SOFTMAX_TWICE, FIRST_CHOICES_ONLY, SUMMED,
    NEVER_ADDED, LIMITED_EVALUATION, CHOSEN_ONLY,
)  # fmt: skip
TITLES = tuple(sorted(exhibit.title for exhibit in EXHIBITS))
"""The possible answers."""
