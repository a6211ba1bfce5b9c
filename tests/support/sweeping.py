"""What tests of sweeps share: small grids, and things that workers are made to do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable

import psutil

from moe_sim import RunConfig
from moe_sim.sweep.grid import Cell, Grid
from moe_sim.sweep.worker import Row, StopFlag, run_cell

SMALL = RunConfig(batch_tokens=32, expert_hidden_size=4, num_experts=4, num_topics=3)
POISON_SEED = 3
ENDLESS_STEPS = 100_000


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition comes true in time. Looking at it leaves the processor to what is waited for."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.02)
    return True


def small_grid(seeds: int = 6, steps: int = 3, **axes: tuple[object, ...]) -> Grid:
    return Grid(SMALL, axes, seeds, steps)


def plain(rows: Iterable[Row]) -> list[str]:
    """Rows as text, to the last digit, so that NaN equals NaN."""
    return [repr(row) for row in rows]


def poisoned(cell: Cell, stopped: StopFlag, with_history: bool) -> Row:
    """Ends the worker's process for one seed, as a crash in foreign code would."""
    if cell.config.seed == POISON_SEED:
        os._exit(1)
    return run_cell(cell, stopped, with_history)


def first_two_short() -> list[Cell]:
    """Two runs that end at once, and then some that would keep workers busy for minutes."""
    cells = small_grid(seeds=8).cells()
    return [*cells[:2], *(Cell(cell.config, ENDLESS_STEPS) for cell in cells[2:])]


def loky_workers(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The worker processes of a driver, this one if none is given."""
    children = (process or psutil.Process()).children()
    return [child for child in children if any("popen_loky" in word for word in child.cmdline())]


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended and that nobody has asked about does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
