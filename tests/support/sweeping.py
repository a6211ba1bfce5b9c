"""Helpers for tests of sweeps: small grids, and work for their workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import psutil

from moe_sim import RunConfig
from moe_sim.sweep.driver import OnRow, Sweep
from moe_sim.sweep.grid import Cell, Grid
from moe_sim.sweep.worker import Row, StopFlag, run_cells

SMALL = RunConfig(batch_tokens=32, expert_hidden_size=4, num_experts=4, num_topics=3)
POISON_SEED = 3
ENDLESS_STEPS = 100_000
PATIENCE = 240.0
"""Seconds for processes of the lowest priority: they compute only while a core has nothing else to do."""


def small_grid(seeds: int = 6, steps: int = 3, **axes: tuple[object, ...]) -> Grid:
    return Grid(SMALL, axes, seeds, steps)


def plain(rows: Iterable[Row]) -> list[str]:
    """Rows as text, to the last digit, so that NaN equals NaN."""
    return [repr(row) for row in rows]


def poisoned(cells: Sequence[Cell], stopped: StopFlag, with_history: bool) -> list[Row]:
    """Exit the worker's process for one seed, like a crash in native code."""
    if any(cell.config.seed == POISON_SEED for cell in cells):
        os._exit(1)
    return run_cells(cells, stopped, with_history)


def one_by_one(work: Callable[[Cell, StopFlag, bool], Row]) -> Callable[[Sequence[Cell], StopFlag, bool], list[Row]]:
    """Work for bundles, from work for single runs."""
    return lambda cells, stopped, with_history: [work(cell, stopped, with_history) for cell in cells]


def first_two_short() -> list[Cell]:
    """Two short runs, then some that would keep workers busy for minutes."""
    cells = small_grid(seeds=8).cells()
    return [*cells[:2], *(Cell(cell.config, ENDLESS_STEPS) for cell in cells[2:])]


@contextmanager
def in_background(sweep: Sweep, on_row: OnRow | None = None) -> Iterator[threading.Thread]:
    """Computes a sweep in a thread, which has ended afterwards, also if the test has failed."""
    thread = threading.Thread(target=sweep.run, args=(on_row,))
    thread.start()
    try:
        yield thread
    finally:
        sweep.cancel()
        thread.join(60)


def loky_workers(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The worker processes of a driver, by default of this process."""
    children = (process or psutil.Process()).children()
    return [child for child in children if is_alive(child) and any("popen_loky" in word for word in child.cmdline())]


def forked_workers() -> list[psutil.Process]:
    """The worker processes of a sweep in children of a nursery of this process."""
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "moe-sweep"]


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
