"""The objects that all visitors of a server share, created once in app.py and passed on."""

from __future__ import annotations

import atexit
import os
from functools import partial

from moe_sim.config.settings import Settings
from moe_sim.live.admission import Admission
from moe_sim.live.lectures import Lectures
from moe_sim.live.runners.pool import Pool
from moe_sim.live.scheduler import Scheduler
from moe_sim.live.shared_runs import SharedRuns
from moe_sim.live.trace_folder import TraceFolder
from moe_sim.live.uploaded_traces import UploadedTraces
from moe_sim.processes.errands import Errands
from moe_sim.processes.nursery import Nursery
from moe_sim.sweep.dask_engine import Dask
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.estimate import Estimates
from moe_sim.sweep.forked_engine import Forked
from moe_sim.sweep.limits import Limits
from moe_sim.sweep.pace import seconds_per_step, time_steps
from moe_sim.sweep.queue import SweepQueue

START_DELAY = 2.0
"""Seconds before a process loads torch, so that the first visitor's page loads first."""


class Server:
    """Owns the worker processes, the scheduler, the sweep queue with its estimates, the errands, and the lectures.

    Args:
        settings: the host's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.nursery = Nursery(START_DELAY)
        self.pool = Pool(self.nursery)
        self.errands = Errands(self.nursery if settings.workers else None)
        self.runs = SharedRuns(self.pool)
        self.lectures = Lectures()
        self.traces = TraceFolder(settings.traces)
        self.uploaded_traces = UploadedTraces()
        self.scheduler = Scheduler(Admission(settings.runs), self.lectures)
        engine = Dask(settings.dask) if settings.dask else Forked(self.nursery, os.cpu_count() or 1)
        self.sweeps = SweepQueue(
            lambda cells: Sweep(cells, engine),
            Limits(settings.sweep_runs, settings.sweep_steps, settings.sweep_seconds),
        )
        self.estimates = Estimates(partial(seconds_per_step, self.nursery) if settings.workers else time_steps)
        self.scheduler.start()
        atexit.register(self.stop)  # a thread inside torch must not be running when the interpreter exits

    def use_workers(self) -> None:
        """Compute runs in worker processes, as many as the settings say."""
        self.pool.use(self.settings.workers)

    def stop(self) -> None:
        """Cancel sweeps, stop training and end the worker processes. Blocks until that is done."""
        atexit.unregister(self.stop)
        self.sweeps.stop()
        self.estimates.stop()
        self.scheduler.stop()
        self.pool.stop()
        self.errands.stop()
        self.nursery.stop()
