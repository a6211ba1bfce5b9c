"""Times the steps of a configuration where runs are computed, between other runs' turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from moe_sim.config.run_config import RunConfig
from moe_sim.live.runners.pool import Pool, WorkerLost
from moe_sim.live.runners.runner import Runner

WARM_UP, TIMED = 2, 6
"""Steps: untimed, then timed."""
LONGEST = 0.15
"""Seconds of computing after which no further step is taken. A first step of that length is the only one."""
PATIENCE = 60.0
"""Seconds to wait for a worker process that is starting."""
ATTEMPTS = 2
"""Worker processes that timing may lose."""


def seconds_per_step(pool: Pool, config: RunConfig, stopped: Callable[[], bool]) -> float:
    """Times a few steps, in CPU seconds of the worker, so that what else it computes does not count.

    Args:
        pool: whose workers compute them.
        config: of the run.
        stopped: polled while a worker process is starting.

    Returns:
        Seconds per step; ∞ if the configuration cannot be trained here.
    """
    for _ in range(ATTEMPTS):
        deadline = time.monotonic() + PATIENCE
        while pool.starting and time.monotonic() < deadline and not stopped():
            time.sleep(0.1)
        try:
            return _timed(pool.begin(config, ()))
        except WorkerLost:
            continue
        except (MemoryError, RuntimeError):
            break
    return math.inf


def _timed(runner: Runner) -> float:
    for _ in range(WARM_UP):
        taken = runner.advance(1, math.inf, keep=False).seconds
        if taken > LONGEST:
            return taken
    times: list[float] = []
    while len(times) < TIMED and sum(times) < LONGEST:
        times.append(runner.advance(1, math.inf, keep=False).seconds)
    return sum(times) / len(times)
