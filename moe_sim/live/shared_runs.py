"""Equal runs are computed once: everybody who follows the same run reads the same numbers."""

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
    """The computed runs that somebody follows, by configuration and plan. All methods may be called from any thread.

    Args:
        pool: computes them; by default this process does.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = pool or Pool()
        self._runs: WeakValueDictionary[str, ComputedRun] = WeakValueDictionary()
        self._lock = threading.Lock()

    def follow(self, config: RunConfig, plan: tuple[Event, ...], follower: Any) -> ComputedRun:
        """The run of a configuration and a plan: the same object for everybody who follows it at the same time."""
        key = f"{config.model_dump_json()} {events_to_text(plan)}"
        with self._lock:
            run = self._runs.get(key)
            if run is None or run.failed or not run.is_shared:
                run = self._runs[key] = ComputedRun.begin(config, plan, self._pool, shared=True)
            run.followers.add(follower)  # before somebody else can make it their own
            return run

    def own(self, run: ComputedRun, follower: Any, step: int) -> ComputedRun:
        """A run that equals `run` up to `step` and belongs to the follower alone: `run` itself if nobody else follows
        it."""
        with self._lock:
            others = [one for one in run.followers if one is not follower and not one.forgotten]
            if not run.is_shared or (not others and step == len(run.history)):
                run.is_shared = False
                return run
        return run.branch(step, run.plan)
