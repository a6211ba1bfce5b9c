"""Two to four runs in lockstep: no run is ever more than one step ahead of another."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from moe_sim.config.run_plan import NAMES, RunPlan
from moe_sim.config.thresholds import Thresholds
from moe_sim.live.background_run import DEFAULT_RATE, BackgroundRun
from moe_sim.live.live_run import LiveRun, advance_runs
from moe_sim.live.shared_runs import SharedRuns


class Comparison(BackgroundRun):
    """Runs side by side, trained, paused and paced together. A live knob can be changed in one of them or in all.

    Runs with the same seed see the same tokens in the same order. If their shapes match, they also start from the same
    weights, so they are identical until the first differing update.
    """

    def __init__(
        self, plans: Sequence[RunPlan], *, rate: float = DEFAULT_RATE, catch_up: int = 0,
        runs: SharedRuns | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            plans: two to four runs.
            rate: target rate in steps/s.
            catch_up: the step to replay to at full speed first.
            runs: as in `LiveRun`.

        Raises:
            ValueError: for any other number of runs.
        """
        if not 2 <= len(plans) <= len(NAMES):
            raise ValueError(f"a comparison has 2 to {len(NAMES)} runs, not {len(plans)}")
        super().__init__(rate)
        runs = runs or SharedRuns()
        self.members = tuple(LiveRun(plan.config, plan.events, runs=runs) for plan in plans)
        self._catch_up = catch_up
        self.extend(max(0, catch_up + 400 - self.budget))

    def __repr__(self) -> str:
        return f"Comparison({', '.join(repr(member) for member in self.members)})"

    @property
    def plans(self) -> tuple[RunPlan, ...]:
        """The runs' plans, including changes made by hand."""
        return tuple(RunPlan(member.history.initial_config, member.course) for member in self.members)

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of the diagnosis."""
        return self.members[0].thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Thresholds) -> None:
        for member in self.members:
            member.thresholds = thresholds

    @property
    def steps_done(self) -> int:
        active = [member.steps_done for member in self.members if not member.diverged]
        return min(active) if active else max(member.steps_done for member in self.members)

    @property
    def diverged(self) -> bool:
        return all(member.diverged for member in self.members)

    def train(self) -> None:
        for member in self.members:
            member.train()
        super().train()

    def pause(self) -> None:
        super().pause()
        with self._lock:
            for member in self.members:
                member.pause()

    def single_step(self) -> None:
        for member in self.members:
            member.pause()
        super().single_step()

    def extend(self, steps: int = 1_000) -> None:
        for member in self.members:
            member.budget += steps
        super().extend(steps)

    def update(self, which: int | None, **changes: Any) -> None:
        """Changes live knobs by hand in one run (its index) or in all (None).

        Raises:
            ValueError: as in `Trainer.update`; nothing changes then.
        """
        with self._lock:
            chosen = self.members if which is None else (self.members[which],)
            for member in chosen:
                member.config.replace(**changes)
            for member in chosen:
                member.update(**changes)

    @property
    def worker(self) -> int:
        return self.members[0].worker

    @property
    def recomputed(self) -> int | None:
        return min((member.recomputed for member in self.members if member.recomputed is not None), default=None)

    @property
    def computed_runs(self) -> frozenset[int]:
        return frozenset().union(*(member.computed_runs for member in self.members))

    def advance_by(self, count: int, seconds: float = math.inf) -> None:
        was_catching_up, end = self.catching_up, time.monotonic() + seconds
        for _ in range(count):
            active = [member for member in self.members if not member.diverged]
            slowest = min((member.steps_done for member in active), default=0)
            advance_runs([member for member in active if member.steps_done == slowest], 1, seconds)
            if time.monotonic() >= end:
                break
        if was_catching_up and not self.catching_up:
            for member in self.members:
                member.follow_plan()
