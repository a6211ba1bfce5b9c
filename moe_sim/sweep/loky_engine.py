"""Runs a sweep in worker processes on this machine, with loky."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from moe_sim.config.extras import require
from moe_sim.sweep.engine import Engine, EngineSession
from moe_sim.sweep.worker import never

NICENESS = 19
"""Workers yield to everything else on this machine, live runs too, which have 5."""
WATCH_INTERVAL = 0.5
"""Seconds between checks that the driver is still alive."""


@dataclass(frozen=True)
class Loky(Engine):
    """Unlike other process pools, loky does not import the main module in each worker; Streamlit's runs the page."""

    workers: int
    name: str = "loky"

    def open(self, cancelled: Callable[[], bool]) -> EngineSession:
        """See `Engine`."""
        return _LokySession(self.workers)


class _LokySession(EngineSession):
    def __init__(self, workers: int) -> None:
        require("loky", "The engine loky")
        from loky import ProcessPoolExecutor  # imported here: a page without a sweep does not need it

        self.executor = self._pool = ProcessPoolExecutor(
            max_workers=workers,
            initializer=prepare_worker,
            initargs=(os.getpid(),),
            env={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        self.window = 2 * workers
        self.stopped = never  # `stop` kills the workers instead

    def stop(self) -> None:
        self._pool.shutdown(kill_workers=True)

    def close(self) -> None:
        self.executor.shutdown()


def prepare_worker(driver: int) -> None:
    """Set up a worker: low priority, Ctrl-C left to the driver, exit when the driver exits.

    Args:
        driver: its process id.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    threading.Thread(target=_end_with, args=(driver,), name="driver-watch", daemon=True).start()


def _end_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(WATCH_INTERVAL)
    os._exit(1)
