"""Runs in a worker: trains runs of a sweep and returns a row of plain values for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from moe_sim.diagnosis.final_metrics import final_metrics
from moe_sim.history.history import History
from moe_sim.history.to_json import run_to_json
from moe_sim.sweep.grid import Cell
from moe_sim.trainer.together import advance
from moe_sim.trainer.trainer import Trainer

Row = dict[str, Any]
"""`run`, every knob by its name, `steps`, the fields of `FinalMetrics`, `status` and `error`."""
StopFlag = Callable[[], bool]
"""Returns True once the run should stop early."""

DONE, DIVERGED, FAILED, STOPPED = "done", "diverged", "failed", "stopped"
HISTORY = "history"
"""Key of the run as JSON in a row sent by a worker; not a column of the table."""
POLL_INTERVAL = 0.25
"""Seconds between checks of the stop flag, which may have to ask another machine."""
STRIDE = 10
"""Steps between looks at the clock."""


def never() -> bool:
    """A stop flag that is never set."""
    return False


def run_cells(cells: Sequence[Cell], stopped: StopFlag = never, with_history: bool = False) -> list[Row]:
    """Train runs of the same number of steps, in one computation as far as their shapes allow.

    Args:
        cells: the runs.
        stopped: polled during training; a stopped run gives a row with status "stopped".
        with_history: add the whole run as JSON under `HISTORY`.

    Returns:
        The row of each run, the same whenever, wherever and in whatever company the run is repeated on an identical
        machine. An exception gives a row with status "failed" and an error message.
    """
    try:
        with _one_torch_thread():
            return _run(cells, stopped, with_history)
    except Exception as error:
        if len(cells) == 1:
            return [failed_row(cells[0], sentence_of(error))]
        return [row for cell in cells for row in run_cells([cell], stopped, with_history)]  # which one is it?


def run_cell(cell: Cell, stopped: StopFlag = never, with_history: bool = False) -> Row:
    """Train one run; see `run_cells`."""
    return run_cells([cell], stopped, with_history)[0]


def failed_row(cell: Cell, sentence: str) -> Row:
    """The row of a run without a result."""
    return _fill(cell, asdict(final_metrics(History(cell.config), diverged=False)), FAILED, sentence)


def sentence_of(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _run(cells: Sequence[Cell], stopped: StopFlag, with_history: bool) -> list[Row]:
    trainers = [Trainer(cell.config) for cell in cells]
    completed = _train(trainers, cells[0].steps, stopped)
    rows = [_row(cell, trainer, completed) for cell, trainer in zip(cells, trainers, strict=True)]
    if with_history and completed:
        for row, trainer in zip(rows, trainers, strict=True):
            row[HISTORY] = run_to_json(trainer.history, trainer.probe())
    return rows


def _train(trainers: Sequence[Trainer], steps: int, stopped: StopFlag) -> bool:
    """Train all steps, or until the runs diverge. False if they were stopped."""
    next_look = time.monotonic()
    for done in range(0, steps, STRIDE):
        if time.monotonic() >= next_look:
            if stopped():
                return False
            next_look = time.monotonic() + POLL_INTERVAL
        advance(trainers, min(STRIDE, steps - done))
    return True


def _row(cell: Cell, trainer: Trainer, completed: bool) -> Row:
    status = STOPPED if not completed else DIVERGED if trainer.diverged else DONE
    return _fill(cell, asdict(final_metrics(trainer.history, diverged=trainer.diverged)), status, None)


def _fill(cell: Cell, outcome: Row, status: str, error: str | None) -> Row:
    configuration = cell.config.model_dump()
    return {"run": cell.run, **configuration, "steps": cell.steps, **outcome, "status": status, "error": error}


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Use one torch thread, as the page does, for equal numbers; it is the runs that are parallel."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
