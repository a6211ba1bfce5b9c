"""Replays runs after a server restart, from what the browser has kept of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moe_sim.config.codec import events_from_text, events_to_text, from_query, to_query
from moe_sim.config.run_plan import NAMES, RunPlan
from moe_sim.live.background_run import RATES
from moe_sim.live.live_run import LiveRun
from moe_sim.live.shared_runs import SharedRuns

MOST_STEPS = 100_000
"""Runs with a larger budget are not replayed."""
MOST_CHANGES = 1_000
"""Runs with more changes are not replayed."""
REFUSED = "The connection was lost and the training so far cannot be computed again. It restarts from step 0."


@dataclass(frozen=True)
class Replay:
    """One run, or several side by side, to replay up to a step."""

    plans: tuple[RunPlan, ...]
    steps: int
    budget: int
    rate: float
    training: bool
    """Whether to continue training from there."""

    def run(self, runs: SharedRuns) -> LiveRun:
        """Returns the single run, catching up to the step."""
        (plan,) = self.plans
        run = LiveRun.again(plan.config, plan.events, self.steps, runs)
        run.rate, run.budget = self.rate, self.budget
        if self.training:
            run.train()
        return run


def to_keep(plans: Sequence[RunPlan]) -> list[dict[str, Any]]:
    """Returns what a browser keeps of each run: the initial configuration and all changes."""
    return [{"config": to_query(plan.config), "events": events_to_text(plan.events)} for plan in plans]


def replay_from(command: Mapping[str, Any]) -> Replay | None:
    """Reads a replay from a browser's command. None if any part is invalid."""
    match command:
        case {
            "runs": list() as runs, "steps": int() as steps, "budget": int() as budget,
            "rate": int() | float() as rate, "training": bool() as training,
        } if 0 <= steps <= budget <= MOST_STEPS and 1 <= len(runs) <= len(NAMES):  # fmt: skip
            plans = tuple(plan for run in runs if (plan := _run_plan(run)) is not None)
            if len(plans) == len(runs) and (rate or math.inf) in RATES:
                return Replay(plans, steps, budget, rate or math.inf, training)
    return None


def _run_plan(run: Any) -> RunPlan | None:
    match run:
        case {"config": dict() as query, "events": str() as text} if all(isinstance(v, str) for v in query.values()):
            config, refused = from_query(query)
            plan, impossible = events_from_text(text, config, MOST_CHANGES)
            return None if refused or impossible else RunPlan(config, plan)
    return None
