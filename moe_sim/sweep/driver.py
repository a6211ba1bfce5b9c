"""A sweep: hands runs to an engine, takes their rows, and survives what happens to workers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Literal

from moe_sim.sweep.engine import Engine, EngineError, Session
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.store import Histories, Store
from moe_sim.sweep.worker import FAILED, HISTORY, STOPPED, Row, StopFlag, failed_row, run_cell, sentence_of

ENDED_ITS_WORKER = "it ended its worker process"
LOOK_INTERVAL = 0.1
"""Seconds between two looks whether the sweep was cancelled."""

Work = Callable[[Cell, StopFlag, bool], Row]
OnRow = Callable[[Row], None]


class Sweep:
    """Some runs, each done once. One thread calls `run`; any thread may cancel it and read how far it is.

    When a worker dies, the runs that were in its executor are done again, one at a time; one that ends a worker all
    alone is reported as failed and the others go on.

    Args:
        cells: the runs; equal ones count once.
        engine: what computes them.
        store: keeps the rows as they come; runs that it has are not done again.
        histories: keeps whole runs; one that it has not is done again.
        work: does one run in a worker and must be importable there.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        engine: Engine,
        store: Store | None = None,
        histories: Histories | None = None,
        work: Work = run_cell,
    ) -> None:
        self._cells = {cell.key: cell for cell in cells}
        self._engine, self._store, self._histories, self._work = engine, store, histories, work
        self._rows = self._kept_rows()
        self._resumed = len(self._rows)
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._started: float | None = None
        self.state: Literal["ready", "running", "finished", "cancelled"] = "ready"

    @property
    def total(self) -> int:
        """Runs that there are to be."""
        return len(self._cells)

    @property
    def done(self) -> int:
        """Runs that have a row, also a failed one or one from an earlier time."""
        return len(self._rows)

    @property
    def failed(self) -> int:
        """Rows of runs that failed."""
        return sum(row["status"] == FAILED for row in self.rows)

    @property
    def rows(self) -> list[Row]:
        """The rows so far: first those from an earlier time, then in the order in which they came."""
        with self._lock:
            return list(self._rows.values())

    @property
    def seconds_left(self) -> float | None:
        """By the pace since `run` was called; None before its first row."""
        done, started = len(self._rows), self._started
        if started is None or done == self._resumed:
            return None
        return (time.monotonic() - started) / (done - self._resumed) * (self.total - done)

    def cancel(self) -> None:
        """Stop the workers and let `run` return. Rows that are there stay; what was in flight is lost."""
        self._cancelled.set()

    def run(self, on_row: OnRow | None = None) -> list[Row]:
        """Do what is missing. Called once.

        Args:
            on_row: gets each new row, in this thread.

        Returns:
            The rows in the order of the cells: all of them, unless the sweep was cancelled.

        Raises:
            EngineError: if the engine cannot work (any more).
            CannotWriteError: if results cannot be kept.
            KeyboardInterrupt: after Ctrl-C; the workers are stopped then, and the rows kept.
        """
        if self.state != "ready":
            raise RuntimeError("a sweep runs once")
        self.state, self._started = "running", time.monotonic()
        try:
            self._run_missing(on_row or (lambda row: None))
        finally:
            try:
                if self._store:
                    self._store.finish(self._cells.values())
            finally:
                self.state = "finished" if self.done == self.total else "cancelled"
        return [self._rows[key] for key in self._cells if key in self._rows]

    def _kept_rows(self) -> dict[str, Row]:
        kept = {}
        for key, cell in self._cells.items():
            row = self._store.row(cell) if self._store else None
            if row and (self._histories is None or self._histories.has(cell)):
                kept[key] = row
        return kept

    def _run_missing(self, on_row: OnRow) -> None:
        queue = deque(cell for key, cell in self._cells.items() if key not in self._rows)
        suspects: deque[Cell] = deque()
        while (suspects or queue) and not self._cancelled.is_set():
            ended, alone = self._run_session(suspects, queue, on_row)
            if alone:
                for culprit in ended:
                    self._take(culprit, failed_row(culprit, ENDED_ITS_WORKER), on_row)
            else:
                suspects.extend(ended)

    def _run_session(self, suspects: deque[Cell], queue: deque[Cell], on_row: OnRow) -> tuple[list[Cell], bool]:
        """Do the suspects one at a time and then the queue, until there are no more or a worker has ended.

        Returns:
            What was in flight when its worker ended, no longer among the suspects or in the queue; and whether it was
            there alone.
        """
        session = self._engine.open(self._cancelled.is_set)
        given, in_flight, ended = len(suspects) + len(queue), dict[Future[Row], Cell](), list[Cell]()
        healthy, alone = True, False
        try:
            while (in_flight or ((suspects or queue) and healthy)) and not self._cancelled.is_set():
                alone = bool(suspects) if not in_flight else alone
                source, most = (suspects, 1) if alone else (queue, session.window)
                healthy = healthy and self._hand_out(session, source, in_flight, most)
                for future in wait(in_flight, LOOK_INTERVAL, FIRST_COMPLETED).done:
                    cell = in_flight.pop(future)
                    row = _row_of(session, cell, future)
                    if row is None:
                        healthy = False
                        ended.append(cell)
                    else:
                        self._take(cell, row, on_row)
            if not healthy and len(suspects) + len(queue) == given:
                raise EngineError("The worker processes end as soon as they are started.")
        except BaseException:
            session.stop()
            raise
        if self._cancelled.is_set():
            session.stop()
        else:
            session.close()
        return ended, alone

    def _hand_out(self, session: Session, source: deque[Cell], in_flight: dict[Future[Row], Cell], most: int) -> bool:
        """Give the executor runs until it has `most`. False if it is broken, which shows only here where the worker
        that ended had nothing to do."""
        while source and len(in_flight) < most:
            try:
                future = session.executor.submit(self._work, source[0], session.stopped, self._histories is not None)
            except BrokenExecutor:
                return False
            in_flight[future] = source.popleft()
        return True

    def _take(self, cell: Cell, row: Row, on_row: OnRow) -> None:
        """Keep a row, durably before anybody hears of it."""
        history = row.pop(HISTORY, None)
        if self._histories and history is not None:
            self._histories.keep(cell, history)
        if self._store:
            self._store.add(row)
        with self._lock:
            self._rows[cell.key] = row
        on_row(row)


def _row_of(session: Session, cell: Cell, future: Future[Row]) -> Row | None:
    """What came of a run; None if it has to be done again because its worker ended."""
    if future.cancelled():
        return None  # not by us: the scheduler has lost it
    error = future.exception()
    if error is None:
        row = future.result()
        return None if row["status"] == STOPPED else row
    return None if session.worker_ended(error) else failed_row(cell, sentence_of(error))
