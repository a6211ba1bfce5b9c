"""What a visitor's sweep may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moe_sim.config.errors import InvalidInput
from moe_sim.sweep.estimate import Estimate
from moe_sim.sweep.wording import duration


@dataclass(frozen=True)
class Limits:
    """The size limits of a visitor's sweep."""

    runs: int = 1_000
    steps: int = 600_000
    """Steps of all runs together."""
    seconds: float = 1_800.0
    """Estimated duration."""
    run_seconds: float = 120.0
    """Estimated duration of its longest run, for which the next sweep in the queue has to wait."""

    def check(self, *, runs: int, steps: int) -> None:
        """Checks the size of a sweep.

        Raises:
            InvalidInput: if it is too large.
        """
        if runs > self.runs:
            raise InvalidInput(f"{runs:,} runs are more than the {self.runs:,} that a sweep on this page may have.")
        if steps > self.steps:
            raise InvalidInput(f"{steps:,} steps in all are more than the {self.steps:,} that a sweep here may have.")

    def check_time(self, estimate: Estimate) -> None:
        """Checks the duration of a sweep.

        Raises:
            InvalidInput: if it is too long.
        """
        if math.isinf(estimate.seconds):
            raise InvalidInput("The largest of these runs cannot be computed here.")
        for what, seconds, limit in (
            ("This sweep", estimate.seconds, self.seconds),
            ("A single run", estimate.longest_run, self.run_seconds),
        ):
            if seconds > limit:
                most = duration(limit).removeprefix("about ")
                raise InvalidInput(f"{what} would take {duration(seconds)} here; on this page, {most} is the limit.")
