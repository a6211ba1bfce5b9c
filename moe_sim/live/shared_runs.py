"""Computes equal runs once: everyone who follows the same run reads the same numbers."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakValueDictionary

from moe_sim.config.codec import events_to_text
from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.live.computed_run import ComputedRun
from moe_sim.live.runners.pool import Pool


class SharedRuns:
    """The computed runs in use, by configuration and plan. All methods may be called from any thread.

    Args:
        pool: computes the runs; by default, this process does.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = pool or Pool()
        self._runs: WeakValueDictionary[str, ComputedRun] = WeakValueDictionary()
        self._lock = threading.Lock()

    def follow(self, config: RunConfig, plan: tuple[Event, ...], follower: Any) -> ComputedRun:
        """Returns the run of a configuration and a plan, the same object for all its current followers."""
        key = f"{config.model_dump_json()} {events_to_text(plan)}"
        with self._lock:
            run = self._runs.get(key)
            if run is None or run.failed or not run.is_shared:
                run = self._runs[key] = ComputedRun.begin(config, plan, self._pool, shared=True)
            run.followers.add(follower)  # under the lock: nobody else can claim the run first
            return run

    def own(self, run: ComputedRun, follower: Any, step: int) -> ComputedRun:
        """Returns a run equal to `run` up to `step` that belongs to the follower alone: `run` itself if nobody else
        follows it, else a branch."""
        with self._lock:
            others = [one for one in run.followers if one is not follower and not one.forgotten]
            if not run.is_shared or (not others and step == len(run.history)):
                run.is_shared = False
                return run
        return run.branch(step, run.plan)
