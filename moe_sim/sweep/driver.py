"""Runs a sweep: submits runs to an engine, collects their rows, and survives crashed workers."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Literal

from moe_sim.sweep.engine import Engine, EngineError, EngineSession
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.store import Histories, Store
from moe_sim.sweep.worker import FAILED, HISTORY, STOPPED, Row, StopFlag, failed_row, run_cells, sentence_of
from moe_sim.trainer.together import most_together, shape_of

ENDED_ITS_WORKER = "the run crashed its worker process"
LOOK_INTERVAL = 0.1
"""Seconds between checks whether the sweep was cancelled."""

FEWEST_BUNDLES = 4
"""Runs that are computed together end together: even one worker reports its progress this often."""

BUNDLE_STEPS = 20_000
"""The most steps of a bundle, of all its runs together: about 20 seconds of small runs. What is in flight is waited for
or lost when a sweep makes room for another."""

Bundle = tuple[Cell, ...]
Work = Callable[[Bundle, StopFlag, bool], list[Row]]
OnRow = Callable[[Row], None]


class Sweep:
    """A set of runs, each computed once. One thread calls `run`; any thread may cancel it and read its progress.

    Runs of one shape are computed in bundles (see `moe_sim.advance`). When a worker dies, the runs in its executor are
    retried one at a time. If a run crashes its worker on its own, it is reported as failed and the rest continue.

    Args:
        cells: the runs; duplicates count once.
        engine: computes the runs.
        store: saves rows as they arrive; runs that it already has are skipped.
        histories: saves whole runs; a run missing here is repeated.
        work: computes a bundle of runs in a worker; must be importable there.
        largest_bundle: the most runs in a bundle; as many as make sense by default.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        engine: Engine,
        store: Store | None = None,
        histories: Histories | None = None,
        work: Work = run_cells,
        largest_bundle: int | None = None,
    ) -> None:
        self._cells = {cell.key: cell for cell in cells}
        self._engine, self._store, self._histories, self._work = engine, store, histories, work
        self._largest_bundle = largest_bundle
        self._rows = self._kept_rows()
        self._resumed = len(self._rows)
        self._lock = threading.Lock()
        self._cancelled, self._drained = threading.Event(), threading.Event()
        self._started: float | None = None
        self.state: Literal["ready", "running", "finished", "cancelled"] = "ready"

    @property
    def total(self) -> int:
        """Number of runs."""
        return len(self._cells)

    @property
    def done(self) -> int:
        """Number of rows so far, including failed runs and rows from earlier sweeps."""
        return len(self._rows)

    @property
    def failed(self) -> int:
        """Number of failed runs."""
        return sum(row["status"] == FAILED for row in self.rows)

    @property
    def rows(self) -> list[Row]:
        """The rows so far: first those from earlier sweeps, then new ones in order of arrival."""
        with self._lock:
            return list(self._rows.values())

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace since `run` was called; None before its first row."""
        done, started = len(self._rows), self._started
        if started is None or done == self._resumed:
            return None
        return (time.monotonic() - started) / (done - self._resumed) * (self.total - done)

    def cancel(self) -> None:
        """Stop the workers and make `run` return. Finished rows stay; runs in flight are lost."""
        self._cancelled.set()

    def drain(self) -> None:
        """Start no more runs and make `run` return once those in flight have ended. Nothing is lost."""
        self._drained.set()

    def run(self, on_row: OnRow | None = None) -> list[Row]:
        """Compute the missing runs. Can be called once.

        Args:
            on_row: called with each new row, in this thread.

        Returns:
            The rows in the order of the cells: all of them, unless the sweep was cancelled or drained.

        Raises:
            EngineError: if the engine fails.
            CannotWriteError: if results cannot be saved.
            KeyboardInterrupt: after Ctrl-C; the workers have been stopped and the rows saved.
        """
        if self.state != "ready":
            raise RuntimeError("a sweep can run only once")
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
        while (suspects or queue) and not self._ends_early:
            ended, alone = self._run_session(suspects, queue, on_row)
            if alone:
                for culprit in ended:
                    self._take(culprit, failed_row(culprit, ENDED_ITS_WORKER), on_row)
            else:
                suspects.extend(ended)

    @property
    def _ends_early(self) -> bool:
        return self._cancelled.is_set() or self._drained.is_set()

    def _run_session(self, suspects: deque[Cell], queue: deque[Cell], on_row: OnRow) -> tuple[list[Cell], bool]:
        """Run the suspects one at a time, then the queue, until both are empty or a worker dies.

        Returns:
            The cells in flight when their worker died, removed from the suspects and the queue; and whether they ran
            one at a time.
        """
        session = self._engine.open(self._cancelled.is_set)
        given, in_flight, ended = len(suspects) + len(queue), dict[Future[list[Row]], Bundle](), list[Cell]()
        healthy, alone, share = True, False, math.ceil(len(queue) / max(session.window, FEWEST_BUNDLES))
        try:
            while (
                in_flight or ((suspects or queue) and healthy and not self._ends_early)
            ) and not self._cancelled.is_set():
                alone = bool(suspects) if not in_flight else alone
                source, most, size = (suspects, 1, 1) if alone else (queue, session.window, share)
                healthy = healthy and self._hand_out(session, source, in_flight, most, size)
                for future in wait(in_flight, LOOK_INTERVAL, FIRST_COMPLETED).done:
                    bundle = in_flight.pop(future)
                    rows = _rows_of(session, bundle, future)
                    if rows is None:
                        healthy = False
                        ended.extend(bundle)
                    else:
                        for cell, row in zip(bundle, rows, strict=True):
                            self._take(cell, row, on_row)
            if not healthy and len(suspects) + len(queue) == given and not self._cancelled.is_set():
                raise EngineError("The worker processes exit as soon as they start.")
        except BaseException:
            session.stop()
            raise
        if self._cancelled.is_set():
            session.stop()
        else:
            session.close()
        return ended, alone

    def _hand_out(
        self, session: EngineSession, source: deque[Cell], in_flight: dict[Future[list[Row]], Bundle], most: int,
        size: int,
    ) -> bool:  # fmt: skip
        """Submit bundles of at most `size` runs until `most` are in flight. False if the executor is broken; only here
        does the death of an idle worker show."""
        while source and len(in_flight) < most and not self._ends_early:
            bundle = _next_bundle(source, min(size, self._largest_bundle or size))
            try:
                future = session.executor.submit(self._work, bundle, session.stopped, self._histories is not None)
            except BrokenExecutor:
                return False
            in_flight[future] = bundle
            for _ in bundle:
                source.popleft()
        return True

    def _take(self, cell: Cell, row: Row, on_row: OnRow) -> None:
        """Save a row to disk before reporting it."""
        history = row.pop(HISTORY, None)
        if self._histories and history is not None:
            self._histories.keep(cell, history)
        if self._store:
            self._store.add(row)
        with self._lock:
            self._rows[cell.key] = row
        on_row(row)


def _next_bundle(source: deque[Cell], size: int) -> Bundle:
    """The next runs of one shape."""
    first = source[0]
    shape, most = shape_of(first.config), min(size, most_together(first.config), BUNDLE_STEPS // first.steps)
    alike = itertools.takewhile(lambda cell: cell.steps == first.steps and shape_of(cell.config) == shape, source)
    return tuple(itertools.islice(alike, max(1, most)))


def _rows_of(session: EngineSession, bundle: Bundle, future: Future[list[Row]]) -> list[Row] | None:
    """The rows of a bundle; None if its runs must be retried because their worker died."""
    if future.cancelled():
        return None  # by the scheduler, which lost the runs; not by us
    error = future.exception()
    if error is None:
        rows = future.result()
        return None if any(row["status"] == STOPPED for row in rows) else rows
    return None if session.worker_ended(error) else [failed_row(cell, sentence_of(error)) for cell in bundle]
