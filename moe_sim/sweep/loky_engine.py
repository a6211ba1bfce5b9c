"""Worker processes on this machine, by loky."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from moe_sim.sweep.engine import Engine, Session
from moe_sim.sweep.worker import never

NICENESS = 5
"""Workers give way to whatever else runs here: a live page stays smooth beside them."""
WATCH_INTERVAL = 0.5
"""Seconds between two looks whether the driver is still there."""


@dataclass(frozen=True)
class Loky(Engine):
    """loky does not import the main module anew in each worker, as spawned and forked pools do: Streamlit's would run
    the page."""

    workers: int
    name: str = "loky"

    def open(self, cancelled: Callable[[], bool]) -> Session:
        """See `Engine`."""
        return _LokySession(self.workers)


class _LokySession(Session):
    def __init__(self, workers: int) -> None:
        from loky import ProcessPoolExecutor  # here, because a page that sweeps nothing does without

        self.executor = self._pool = ProcessPoolExecutor(
            max_workers=workers,
            initializer=prepare_worker,
            initargs=(os.getpid(),),
            env={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        self.window = 2 * workers
        self.stopped = never  # `stop` does not ask

    def stop(self) -> None:
        self._pool.shutdown(kill_workers=True)

    def close(self) -> None:
        self.executor.shutdown()


def prepare_worker(driver: int) -> None:
    """Called once in each worker, with the process id of the driver: stay in the background, leave Ctrl-C to the
    driver, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    threading.Thread(target=_end_with, args=(driver,), name="driver-watch", daemon=True).start()


def _end_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(WATCH_INTERVAL)
    os._exit(1)
