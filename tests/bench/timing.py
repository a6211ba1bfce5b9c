"""Timing of contestants in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def medians(contestants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median ms of each contestant, measured in turns so that noise affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for step in contestants.values():
        for _ in range(15):
            step()
    for _ in range(repeats):
        for name, step in contestants.items():
            start = time.perf_counter()
            step()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}
