"""Estimates the duration of sweeps from a few steps of a few of their runs, one at a time for all visitors."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moe_sim.config.run_config import RunConfig
from moe_sim.sweep.grid import Cell

SAMPLES = 3
"""Number of runs timed for a sweep: the smallest, the largest, and one in the middle."""
MOST_KNOWN = 1_000
"""Limit of the configurations whose times are kept."""
MOST_WANTED = 100
"""Limit of the configurations that wait to be timed."""
REST = 3.0
"""Rest after timing a configuration, as a multiple of the time that it took: others compute there too."""
LONGEST_REST = 1.5
"""Seconds. The first time includes the start of a worker process, which takes no turn from anybody."""
STILL_WANTED = 10.0
"""Seconds after which a configuration that nobody asks about any more is not timed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """How long a sweep takes."""

    seconds: float
    """Of all its runs together, on all workers."""
    longest_run: float
    """Seconds of its longest run, on one worker."""


class Estimates:
    """Times configurations in one background thread, each once, whatever its seed. All methods may be called from any
    thread.

    Args:
        time_step: returns the seconds per step of a configuration, ∞ if it cannot be trained here. Its cost must be
            bounded.
    """

    def __init__(self, time_step: Callable[[RunConfig], float]) -> None:
        self._time_step = time_step
        self._known: dict[RunConfig, float] = {}
        """Seconds per step."""
        self._wanted: dict[RunConfig, float] = {}
        """When each was asked about last; timed in order."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def of(self, cells: Sequence[Cell], workers: int, patience: float = 0.0) -> Estimate | None:
        """Returns the estimate for some cells on so many workers; None if it is still being measured after `patience`
        seconds. Whoever wants it asks again."""
        if not cells:
            return Estimate(0.0, 0.0)
        chosen = _samples(cells)
        configs = [cell.config.replace(seed=0) for cell in chosen]
        with self._changed:
            for config in configs:
                if config not in self._known and (config in self._wanted or len(self._wanted) < MOST_WANTED):
                    self._wanted[config] = time.monotonic() + patience
            if self._wanted and self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="estimates", daemon=True)
                self._thread.start()
            if not self._changed.wait_for(lambda: all(config in self._known for config in configs), patience):
                return None
            paces = [self._known[config] for config in configs]
        pace = sum(paces) / len(paces)
        longest = max(pace * cell.steps for pace, cell in zip(paces, chosen, strict=True))
        return Estimate(pace * sum(cell.steps for cell in cells) / workers, longest)

    @property
    def closed(self) -> bool:
        """Whether `stop` has been called."""
        return self._closed

    def stop(self) -> None:
        """Times nothing more, and waits until the configuration in progress is done."""
        with self._changed:
            self._closed = True
            self._wanted.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        """Times what is wanted until nothing is."""
        while (config := self._next()) is not None:
            begun = time.monotonic()
            try:
                pace = self._time_step(config)
            except Exception:
                log.exception("A configuration could not be timed")
                pace = math.inf
            with self._changed:
                self._wanted.pop(config, None)
                self._known[config] = pace
                if len(self._known) > MOST_KNOWN:
                    del self._known[next(iter(self._known))]
                self._changed.notify_all()
                rest = min(REST * (time.monotonic() - begun), LONGEST_REST)
                self._changed.wait_for(lambda: self._closed, rest)

    def _next(self) -> RunConfig | None:
        """The next configuration to time; None, and the thread ends, if there is none."""
        with self._changed:
            oldest = time.monotonic() - STILL_WANTED
            self._wanted = {config: at for config, at in self._wanted.items() if at > oldest}
            if not self._wanted:
                self._thread = None
            return next(iter(self._wanted), None)


def _samples(cells: Sequence[Cell]) -> list[Cell]:
    """Runs spread evenly over the sweep, in order of size."""
    ordered, count = sorted(cells, key=_size), min(SAMPLES, len(cells))
    return [ordered[round(place * (len(ordered) - 1) / max(1, count - 1))] for place in range(count)]


def _size(cell: Cell) -> tuple[int, int]:
    config = cell.config
    return config.batch_tokens * config.top_k * config.expert_hidden_size * cell.steps, config.num_experts
