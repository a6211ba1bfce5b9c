"""What a worker does: one run of a sweep, from its configuration to a row of plain values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from moe_sim.diagnosis.final_metrics import final_metrics
from moe_sim.history.history import History
from moe_sim.sweep.grid import Cell
from moe_sim.trainer.trainer import Trainer

Row = dict[str, Any]
"""`run`, every knob by its name, `steps`, the fields of `FinalMetrics`, `status` and `error`."""
StopFlag = Callable[[], bool]
"""True once the run is to end before its time."""

DONE, DIVERGED, FAILED, STOPPED = "done", "diverged", "failed", "stopped"
HISTORY = "history"
"""Key of the run as JSON in a row that is on its way from the worker; no column of the table."""
POLL_INTERVAL = 0.25
"""Seconds between two looks at the stop flag, which may be a question to another machine."""


def never() -> bool:
    """The stop flag of a run that nobody stops."""
    return False


def run_cell(cell: Cell, stopped: StopFlag = never, with_history: bool = False) -> Row:
    """Do one run.

    Args:
        cell: the run.
        stopped: asked every now and then; a run that is stopped gives a row with status "stopped".
        with_history: add the whole run as JSON under `HISTORY`.

    Returns:
        The run's row. It holds nothing that differs between two times or machines alike. An exception makes a row with
        status "failed" and its sentence.
    """
    try:
        with _one_torch_thread():
            trainer = Trainer(cell.config)
            completed = _train(trainer, cell.steps, stopped)
            row = _row(cell, trainer, completed)
            if with_history and completed:
                row[HISTORY] = _document(trainer)
            return row
    except Exception as error:
        return failed_row(cell, sentence_of(error))


def failed_row(cell: Cell, sentence: str) -> Row:
    """The row of a run that has no result."""
    return _fill(cell, asdict(final_metrics(History(cell.config), diverged=False)), FAILED, sentence)


def sentence_of(error: BaseException) -> str:
    """One line on an exception."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _train(trainer: Trainer, steps: int, stopped: StopFlag) -> bool:
    """All steps, or as many as there are before it diverges. False if it was stopped."""
    next_look = time.monotonic()
    for _ in range(steps):
        if time.monotonic() >= next_look:
            if stopped():
                return False
            next_look = time.monotonic() + POLL_INTERVAL
        if trainer.step() is None:
            break
    return True


def _row(cell: Cell, trainer: Trainer, completed: bool) -> Row:
    status = STOPPED if not completed else DIVERGED if trainer.diverged else DONE
    return _fill(cell, asdict(final_metrics(trainer.history, diverged=trainer.diverged)), status, None)


def _fill(cell: Cell, outcome: Row, status: str, error: str | None) -> Row:
    configuration = cell.config.model_dump()
    return {"run": cell.run, **configuration, "steps": cell.steps, **outcome, "status": status, "error": error}


def _document(trainer: Trainer) -> str:
    from moe_sim.history.to_json import run_to_json  # here, because it brings the drawing of figures with it

    return run_to_json(trainer.history, trainer.probe())


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """As on the page: the same configuration gives the same numbers. Runs are done side by side instead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
