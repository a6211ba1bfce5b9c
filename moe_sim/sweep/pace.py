"""Times the steps of a configuration, in a process of its own and with low priority."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from moe_sim.config.run_config import RunConfig
from moe_sim.processes.calls import Caller, ProcessEnded
from moe_sim.processes.forker import NICEST
from moe_sim.processes.nursery import Nursery
from moe_sim.trainer.together import advance, most_together
from moe_sim.trainer.trainer import Trainer

WARM_UP, TIMED = 1, 3
"""Steps: untimed, then timed."""
TOGETHER = 6
"""Runs that are timed together, about as sweeps compute them. More would take longer to begin."""
LONGEST = 0.15
"""Seconds of computing after which no further step is taken. A first step of that length is the only one."""


def seconds_per_step(nursery: Nursery, config: RunConfig) -> float:
    """Times a few steps in a child of the nursery, in its CPU seconds, so that what others compute does not count. What
    it has allocated is free again afterwards.

    Returns:
        Seconds per step; ∞ if the configuration cannot be trained here.
    """
    process = Caller(nursery, "moe-estimate", NICEST)
    try:
        seconds: float = process.call(time_steps, config)
        return seconds
    except (ProcessEnded, MemoryError, RuntimeError):
        return math.inf
    finally:
        process.close()


def time_steps(config: RunConfig) -> float:
    """Times a few steps in this process; CPU seconds per step."""
    torch.set_num_threads(1)
    count = min(TOGETHER, most_together(config))
    plain = config.replace(router_init="plain")  # an even start takes longer to make and steps no faster
    trainers = [Trainer(plain.replace(seed=seed)) for seed in range(count)]
    return timed(lambda: advance(trainers, 1)) / count


def timed(step: Callable[[], object]) -> float:
    """Times a few calls; CPU seconds per call."""
    for _ in range(WARM_UP):
        if (taken := _time(step)) > LONGEST:
            return taken
    times: list[float] = []
    while len(times) < TIMED and sum(times) < LONGEST:
        times.append(_time(step))
    return sum(times) / len(times)


def _time(step: Callable[[], object]) -> float:
    begun = time.thread_time()
    step()
    return time.thread_time() - begun
