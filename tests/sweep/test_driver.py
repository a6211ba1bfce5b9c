"""The driver on in-process executors: each run is computed once, and the counts are right, whatever happens."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engine import EngineError, InProcess, SerialExecutor
from moe_sim.sweep.engines import engine_named
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.store import Histories, Store
from moe_sim.sweep.worker import Row, StopFlag, failed_row, run_cell, run_cells
from tests.support.sweeping import ENDLESS_STEPS, POISON_SEED, SMALL, in_background, one_by_one, plain, small_grid

SERIAL = engine_named("serial")
THREADS = InProcess("threads", lambda: ThreadPoolExecutor(3), window=6)
CELLS = small_grid(seeds=6).cells()


@pytest.mark.parametrize("engine", [SERIAL, THREADS], ids=lambda engine: engine.name)
def test_every_run_is_computed_once_and_delivered_once(engine: InProcess) -> None:
    delivered: list[Row] = []
    sweep = Sweep(CELLS, engine)
    rows = sweep.run(delivered.append)
    assert plain(rows) == plain(run_cell(cell) for cell in CELLS)
    assert sorted(row["seed"] for row in delivered) == [cell.config.seed for cell in CELLS]
    assert plain(sweep.rows) == plain(delivered)


def test_runs_of_one_shape_and_length_are_computed_in_bundles_and_give_the_same_rows() -> None:
    cells = [
        *small_grid(seeds=30).cells(), *small_grid(seeds=3, top_k=(2,)).cells(), *small_grid(seeds=3, steps=5).cells()
    ]  # fmt: skip
    bundles: list[list[Cell]] = []

    def watched(bundle: Sequence[Cell], stopped: StopFlag, with_history: bool) -> list[Row]:
        bundles.append(list(bundle))
        return run_cells(bundle, stopped, with_history)

    rows = Sweep(cells, SERIAL, work=watched).run()
    assert plain(rows) == plain(run_cell(cell) for cell in cells)
    # 36 runs in at least four bundles: nine each.
    assert [len(bundle) for bundle in bundles] == [9, 9, 9, 3, 3, 3]
    for bundle in bundles:
        assert len({(cell.config.top_k, cell.steps) for cell in bundle}) == 1


def test_long_runs_are_not_bundled() -> None:
    sizes: list[int] = []

    def watched(bundle: Sequence[Cell], stopped: StopFlag, with_history: bool) -> list[Row]:
        sizes.append(len(bundle))
        return [failed_row(cell, "") for cell in bundle]

    Sweep([Cell(cell.config, 10_000) for cell in CELLS], SERIAL, work=watched, largest_bundle=2).run()
    Sweep([Cell(cell.config, 10_001) for cell in CELLS], SERIAL, work=watched).run()
    assert sizes == [2] * 3 + [1] * 6


def test_few_runs_still_share_all_workers() -> None:
    sizes: list[int] = []

    def watched(bundle: Sequence[Cell], stopped: StopFlag, with_history: bool) -> list[Row]:
        sizes.append(len(bundle))
        return run_cells(bundle, stopped, with_history)

    Sweep(CELLS, InProcess("six", lambda: ThreadPoolExecutor(3), window=6), work=watched).run()
    assert sizes == [1] * 6


def test_duplicate_cells_count_once() -> None:
    sweep = Sweep([*CELLS[:2], *CELLS[:2]], SERIAL)
    assert sweep.total == 2
    assert len(sweep.run()) == 2


def test_progress_is_reported_during_the_sweep() -> None:
    sweep = Sweep(CELLS, SERIAL)
    assert (sweep.state, sweep.done, sweep.total, sweep.seconds_left) == ("ready", 0, 6, None)
    seen: list[tuple[str, int, float | None]] = []
    sweep.run(lambda row: seen.append((sweep.state, sweep.done, sweep.seconds_left)))
    assert [(state, done) for state, done, _ in seen] == [("running", i) for i in range(1, 7)]
    assert all(left is not None for _, _, left in seen)
    assert seen[-1][2] == 0
    assert (sweep.state, sweep.failed) == ("finished", 0)


def test_the_time_left_follows_the_pace_of_this_sweep_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "sweep.csv")
    for cell in CELLS[:2]:
        store.add(run_cell(cell))
    now = [100.0]
    monkeypatch.setattr("moe_sim.sweep.driver.time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))

    def ten_seconds(cell: Cell, stopped: StopFlag, with_history: bool) -> Row:
        now[0] += 10
        return run_cell(cell)

    left: list[float | None] = []
    sweep = Sweep(CELLS, SERIAL, store, work=one_by_one(ten_seconds), largest_bundle=1)
    sweep.run(lambda row: left.append(sweep.seconds_left))
    assert left == [30, 20, 10, 0]


def test_a_sweep_runs_only_once() -> None:
    sweep = Sweep(CELLS[:1], SERIAL)
    sweep.run()
    with pytest.raises(RuntimeError, match="once"):
        sweep.run()


@pytest.mark.parametrize(("engine", "most"), [(SERIAL, 3), (THREADS, 7)], ids=("serial", "threads"))
def test_a_drained_sweep_ends_with_the_runs_in_flight_and_loses_none(engine: InProcess, most: int) -> None:
    sweep, cells = Sweep(small_grid(seeds=12).cells(), engine, largest_bundle=1), small_grid(seeds=12).cells()
    rows = sweep.run(lambda row: sweep.drain() if sweep.done == 2 else None)
    assert 2 <= len(rows) <= most + 1
    assert (sweep.state, sweep.done) == ("cancelled", len(rows))
    rest = Sweep([cell for cell in cells if cell.run not in {row["run"] for row in rows}], engine).run()
    assert sorted(plain([*rows, *rest])) == sorted(plain(run_cell(cell) for cell in cells))


def test_finished_runs_are_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "sweep.parquet"
    Sweep(CELLS[:4], SERIAL, Store(path)).run()
    sweep, delivered = Sweep(CELLS, SERIAL, Store(path)), list[Row]()
    assert (sweep.done, sweep.total) == (4, 6)
    rows = sweep.run(delivered.append)
    assert [row["seed"] for row in delivered] == [4, 5]
    assert plain(rows) == plain(run_cell(cell) for cell in CELLS)
    assert plain(Store(path).rows) == plain(rows)


def test_a_run_whose_history_is_missing_is_repeated(tmp_path: Path) -> None:
    path, histories = tmp_path / "sweep.parquet", Histories(tmp_path / "runs")
    Sweep(CELLS[:3], SERIAL, Store(path), histories).run()
    files = sorted((tmp_path / "runs").iterdir())
    assert [file.name for file in files] == sorted(f"{cell.run}.json" for cell in CELLS[:3])
    (tmp_path / "runs" / f"{CELLS[1].run}.json").unlink()
    delivered: list[Row] = []
    Sweep(CELLS[:3], SERIAL, Store(path), histories).run(delivered.append)
    assert [row["run"] for row in delivered] == [CELLS[1].run]
    assert sorted((tmp_path / "runs").iterdir()) == files


def test_an_exception_outside_the_run_fails_only_that_run() -> None:
    def tripping(cell: Cell, stopped: StopFlag, with_history: bool) -> Row:
        if cell.config.seed == POISON_SEED:
            raise TypeError("cannot send this")
        return run_cell(cell)

    sweep = Sweep(CELLS, THREADS, work=one_by_one(tripping), largest_bundle=1)
    rows = sweep.run()
    assert [row["error"] for row in rows if row["status"] == "failed"] == ["TypeError: cannot send this"]
    assert sweep.failed == 1
    assert sweep.state == "finished"


@pytest.mark.parametrize("engine", [SERIAL, THREADS], ids=lambda engine: engine.name)
def test_only_a_run_that_crashes_its_worker_twice_is_reported_and_the_rest_complete(engine: InProcess) -> None:
    attempts: Counter[int] = Counter()

    def fragile(cell: Cell, stopped: StopFlag, with_history: bool) -> Row:
        seed = cell.config.seed
        attempts[seed] += 1
        if seed == POISON_SEED or (seed == 2 and attempts[seed] == 1):  # seed 2 is only collateral damage
            raise BrokenExecutor("a worker is gone")
        return run_cell(cell)

    delivered: list[Row] = []
    rows = Sweep(CELLS, engine, work=one_by_one(fragile), largest_bundle=1).run(delivered.append)
    assert [(row["seed"], row["error"]) for row in rows] == [
        (seed, "the run crashed its worker process" if seed == POISON_SEED else None) for seed in range(6)
    ]
    assert len(delivered) == 6
    assert attempts == {0: 1, 1: 1, 2: 2, 3: 2, 4: 1, 5: 1}


def test_an_idle_worker_that_dies_costs_no_run() -> None:
    class ShortLived(SerialExecutor):
        calls = 0

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.calls += 1
            if self.calls > 2:
                raise BrokenExecutor("a worker is gone")
            return super().submit(fn, *args, **kwargs)

    rows = Sweep(CELLS, InProcess("short-lived", ShortLived)).run()
    assert plain(rows) == plain(run_cell(cell) for cell in CELLS)


def test_an_executor_that_breaks_at_once_ends_the_sweep_with_an_error() -> None:
    class Broken(SerialExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            raise BrokenExecutor("no")

    sweep = Sweep(CELLS, InProcess("broken", Broken))
    with pytest.raises(EngineError, match=r"exit as soon as they start\.$"):
        sweep.run()
    assert sweep.state == "cancelled"


def test_workers_that_a_signal_ends_before_the_first_run_are_no_error_of_a_cancelled_sweep() -> None:
    class Ended(SerialExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            sweep.cancel()
            raise BrokenExecutor("SIGTERM")

    sweep = Sweep(CELLS, InProcess("ended", Ended))
    assert sweep.run() == []
    assert sweep.state == "cancelled"


def test_cancelling_from_another_thread_interrupts_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "sweep.parquet")
    cells = [CELLS[0], Cell(SMALL, ENDLESS_STEPS)]
    sweep = Sweep(cells, SERIAL, store)
    first = threading.Event()
    with in_background(sweep, lambda row: first.set()) as thread:
        assert first.wait(20)
        sweep.cancel()
        start = time.monotonic()
        thread.join(20)
        assert time.monotonic() - start < 2
    assert (sweep.state, sweep.done) == ("cancelled", 1)
    assert [row["run"] for row in Store(store.path).rows] == [CELLS[0].run]
    assert not store.journal.exists()


def test_threads_stop_when_the_sweep_is_cancelled() -> None:
    begun = threading.Semaphore(0)

    def begin(cell: Cell, stopped: StopFlag, with_history: bool) -> Row:
        begun.release()
        return run_cell(cell, stopped)

    endless = [Cell(cell.config, ENDLESS_STEPS) for cell in CELLS]
    sweep = Sweep(endless, THREADS, work=one_by_one(begin), largest_bundle=1)
    before = set(threading.enumerate())
    with in_background(sweep) as thread:
        for _ in range(3):
            assert begun.acquire(timeout=20)
        sweep.cancel()
        deadline = time.monotonic() + 2
        while (begun_since := set(threading.enumerate()) - before) and time.monotonic() < deadline:
            thread.join(0.01)
        assert not begun_since
    assert (sweep.state, sweep.done) == ("cancelled", 0)


def test_a_sweep_cancelled_before_it_runs_does_nothing() -> None:
    sweep = Sweep(CELLS, SERIAL)
    sweep.cancel()
    assert sweep.run() == []
    assert sweep.state == "cancelled"


def test_an_interrupt_keeps_the_finished_rows(tmp_path: Path) -> None:
    store = Store(tmp_path / "sweep.csv")

    def interrupted(cell: Cell, stopped: StopFlag, with_history: bool) -> Row:
        if cell.config.seed == 2:
            raise KeyboardInterrupt
        return run_cell(cell)

    sweep = Sweep(CELLS, SERIAL, store, work=one_by_one(interrupted), largest_bundle=1)
    with pytest.raises(KeyboardInterrupt):
        sweep.run()
    assert (sweep.state, sweep.done) == ("cancelled", 2)
    assert [row["seed"] for row in Store(store.path).rows] == [0, 1]
