"""Visitors' sweeps run one at a time, in turn while others wait; their owner cancels them, or a timeout does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from moe_sim import RunConfig
from moe_sim.config.errors import InvalidInput
from moe_sim.config.settings import read_settings
from moe_sim.server.server import Server
from moe_sim.sweep import queue as queue_module
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engines import engine_named
from moe_sim.sweep.estimate import Estimate
from moe_sim.sweep.grid import Cell, Grid
from moe_sim.sweep.limits import Limits
from moe_sim.sweep.queue import LONGEST_QUEUE, TURN, QueuedSweep, SweepQueue
from moe_sim.sweep.worker import Row
from tests.support.inspecting import eventually, small_config
from tests.support.sweep_rows import row_of


class GatedSweep:
    """A sweep that completes a run for each permission it is given."""

    made: list[GatedSweep]

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells, self.rows, self.seconds_left = list(cells), list[Row](), 7.0
        self.running, self._permits, self._cancelled = threading.Event(), threading.Semaphore(0), threading.Event()
        self._drained = threading.Event()
        type(self).made.append(self)

    @property
    def done(self) -> int:
        return len(self.rows)

    def permit(self, runs: int) -> None:
        self._permits.release(runs)

    def cancel(self) -> None:
        self._cancelled.set()
        self._permits.release()

    def drain(self) -> None:
        self._drained.set()
        self._permits.release()

    def run(self) -> list[Row]:
        self.running.set()
        for cell in self.cells:
            self._permits.acquire()
            if self._cancelled.is_set() or self._drained.is_set():
                break
            self.rows.append(row_of(cell))
        return self.rows


def cells_of(seeds: int, steps: int = 10) -> tuple[Cell, ...]:
    return Grid(small_config(), {"top_k": (1, 2)}, seeds, steps).cells()


@pytest.fixture
def queue() -> Iterator[SweepQueue]:
    """A queue of `GatedSweep`s."""
    GatedSweep.made = []
    queue = SweepQueue(start=GatedSweep)
    yield queue
    queue.stop()
    assert not [thread for thread in threading.enumerate() if thread.name in ("sweep", "sweeps")]


def running(count: int) -> GatedSweep:
    """The last of `count` sweeps, once it runs."""
    assert eventually(lambda: len(GatedSweep.made) == count and GatedSweep.made[-1].running.is_set())
    return GatedSweep.made[-1]


def test_a_sweep_starts_at_once_and_shows_its_rows_as_they_arrive(queue: SweepQueue) -> None:
    queued = queue.book(cells_of(2))
    sweep = running(1)
    assert (queued.state, queued.total, queued.done, queued.rows) == ("running", 4, 0, [])
    assert queue.ahead_of(queued) == 0
    sweep.permit(3)
    assert eventually(lambda: queued.done == 3)
    assert [row["run"] for row in queued.rows] == [cell.run for cell in cells_of(2)][:3]
    assert queued.seconds_left == 7.0
    sweep.permit(1)
    assert eventually(lambda: queued.over)
    assert (queued.state, queued.done) == ("finished", 4)


def test_a_second_sweep_waits_in_the_queue_and_runs_next(queue: SweepQueue) -> None:
    first, second, third = (queue.book(cells_of(seeds)) for seeds in (1, 2, 3))
    sweep = running(1)
    assert [queue.ahead_of(sweep) for sweep in (first, second, third)] == [0, 1, 2]
    assert (second.state, second.done, second.seconds_left) == ("waiting", 0, None)
    sweep.permit(2)
    assert running(2).cells == list(cells_of(2))
    assert [queue.ahead_of(sweep) for sweep in (first, second, third)] == [0, 0, 1]
    assert (first.state, second.state, third.state) == ("finished", "running", "waiting")


def test_cancelling_keeps_finished_rows_and_starts_the_next_sweep(queue: SweepQueue) -> None:
    first, second = queue.book(cells_of(2)), queue.book(cells_of(1))
    running(1).permit(1)
    assert eventually(lambda: first.done == 1)
    first.cancel()
    assert eventually(lambda: first.over)
    assert (first.state, first.done, len(first.rows)) == ("cancelled", 1, 1)
    running(2)
    assert second.state == "running"


def test_cancelling_a_waiting_sweep_does_not_disturb_the_others(queue: SweepQueue) -> None:
    first, second, third = (queue.book(cells_of(seeds)) for seeds in (1, 2, 3))
    sweep = running(1)
    second.cancel()
    assert eventually(lambda: second.over)
    assert (second.state, second.rows, queue.ahead_of(third)) == ("cancelled", [], 1)
    assert first.state == "running"
    sweep.permit(2)
    assert running(2).cells == list(cells_of(3))


def test_a_sweep_that_nobody_watches_is_cancelled_and_a_watched_one_continues() -> None:
    GatedSweep.made = []
    queue = SweepQueue(start=GatedSweep, timeout=0.6)
    watched, left = queue.book(cells_of(1)), queue.book(cells_of(2))
    try:
        assert eventually(lambda: watched.look() or left.over)
        assert (watched.state, left.state) == ("running", "cancelled")
        assert eventually(lambda: watched.over)
        assert watched.state == "cancelled"
    finally:
        queue.stop()


def test_only_missing_and_failed_runs_are_computed(queue: SweepQueue) -> None:
    cells = cells_of(2)
    statuses = ("done", "diverged", "failed")
    known = {cell.run: row_of(cell, status) for cell, status in zip(cells, statuses, strict=False)}
    queued = queue.book(cells, known)
    sweep = running(1)
    assert sweep.cells == list(cells[2:])
    assert (queued.done, queued.total) == (2, 4)
    sweep.permit(2)
    assert eventually(lambda: queued.over)
    assert {row["run"] for row in queued.rows} == {cell.run for cell in cells}
    assert [row["status"] for row in queued.rows] == ["done", "diverged", "done", "done"]


def test_a_sweep_that_is_too_large_is_rejected_with_a_sentence() -> None:
    queue = SweepQueue(start=GatedSweep, limits=Limits(runs=3, steps=100))
    with pytest.raises(InvalidInput, match=r"^4 runs are more than the 3 that a sweep on this page may have\.$"):
        queue.book(cells_of(2))
    with pytest.raises(InvalidInput, match="102 steps in all are more than the 100"):
        queue.book(cells_of(1, steps=51))


@pytest.mark.parametrize(
    ("estimate", "sentence"),
    [
        (Estimate(9_000, 60), "This sweep would take about 2.5 h here; on this page, 30 min is the limit."),
        (Estimate(1_700, 300), "A single run would take about 5 min here; on this page, 2 min is the limit."),
        (Estimate(math.inf, math.inf), "The largest of these runs cannot be computed here."),
    ],
)
def test_a_sweep_that_takes_too_long_is_rejected_with_a_sentence(
    queue: SweepQueue, estimate: Estimate, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        queue.book(cells_of(1), estimate=estimate)
    assert queue.waiting == 0
    assert queue.book(cells_of(1), estimate=Estimate(1_700, 60)).state != "cancelled"


def test_sweeps_take_turns_while_others_wait_and_lose_nothing(
    queue: SweepQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "TURN", 0.2)
    long, short = queue.book(cells_of(3)), queue.book(cells_of(1))
    running(1).permit(2)
    assert running(2).cells == list(cells_of(1))
    assert (long.state, long.done, short.state) == ("waiting", 2, "running")
    assert [queue.ahead_of(sweep) for sweep in (short, long)] == [0, 1]
    GatedSweep.made[-1].permit(2)
    assert eventually(lambda: short.over)
    again = running(3)
    assert again.cells == list(cells_of(3)[2:])
    again.permit(4)
    assert eventually(lambda: long.over)
    assert (long.state, long.done) == ("finished", 6)
    assert [row["run"] for row in long.rows] == [cell.run for cell in cells_of(3)]


def test_a_sweep_alone_keeps_its_turn(queue: SweepQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "TURN", 0.0)
    sweep = queue.book(cells_of(2))
    running(1).permit(1)
    assert eventually(lambda: sweep.done == 1)
    threading.Event().wait(2.2 * queue_module.CHECK_INTERVAL)
    assert (sweep.state, len(GatedSweep.made)) == ("running", 1)


def test_a_run_that_does_not_end_is_stopped_so_that_the_next_sweep_has_its_turn(
    queue: SweepQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "TURN", 0.1)
    monkeypatch.setattr(queue_module, "DRAIN", 0.2)
    monkeypatch.setattr(GatedSweep, "drain", lambda self: None)
    first, second = queue.book(cells_of(2)), queue.book(cells_of(1))
    running(2)
    assert (first.state, second.state) == ("waiting", "running")


def test_the_queue_tells_how_long_it_takes_until_a_sweep_starts(queue: SweepQueue) -> None:
    estimates = [Estimate(seconds, 1) for seconds in (900, 20, 900)]
    sweeps = [queue.book(cells_of(1), estimate=estimate) for estimate in estimates]
    running(1)
    GatedSweep.made[0].seconds_left = 900.0
    assert [queue.seconds_before(sweep) for sweep in sweeps] == [0, TURN, TURN + 20]
    GatedSweep.made[0].seconds_left = 5.0
    assert [queue.seconds_before(sweep) for sweep in sweeps] == [0, 5, 25]


def test_the_queue_has_a_limit(queue: SweepQueue) -> None:
    sweeps = [queue.book(cells_of(1)) for _ in range(LONGEST_QUEUE)]
    with pytest.raises(InvalidInput, match=r"Too many sweeps are waiting in the queue\. Try again later\."):
        queue.book(cells_of(1))
    assert len(sweeps) == 100


def test_the_operator_sets_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOE_SIM_SWEEP_RUNS", raising=False)
    monkeypatch.setenv("MOE_SIM_SWEEP_STEPS", "5000000")
    server = Server(read_settings())
    server.stop()
    assert server.sweeps.limits == Limits(runs=1_000, steps=5_000_000)
    monkeypatch.setenv("MOE_SIM_SWEEP_RUNS", "many")
    with pytest.raises(InvalidInput, match="MOE_SIM_SWEEP_RUNS must be a whole number from 1 to 100,000, not 'many'"):
        read_settings()


def test_a_sweep_that_cannot_run_says_why_and_the_next_one_starts(caplog: pytest.LogCaptureFixture) -> None:
    GatedSweep.made = []
    problems = iter([RuntimeError("The cluster does not answer."), None])

    def start(cells: Sequence[Cell]) -> GatedSweep:
        problem = next(problems)
        if problem:
            raise problem
        return GatedSweep(cells)

    queue = SweepQueue(start=start)
    broken, sound = queue.book(cells_of(1)), queue.book(cells_of(1))
    running(1)
    assert (broken.state, broken.problem, broken.rows) == ("broken", "The cluster does not answer.", [])
    assert sound.state == "running"
    assert "The cluster does not answer." in caplog.text
    queue.stop()
    assert sound.state == "cancelled"


def test_stopping_cancels_all_sweeps_and_accepts_no_more() -> None:
    GatedSweep.made = []
    queue = SweepQueue(start=GatedSweep)
    first, second = queue.book(cells_of(1)), queue.book(cells_of(1))
    running(1)
    queue.stop()
    assert (first.state, second.state) == ("cancelled", "cancelled")
    with pytest.raises(InvalidInput):
        queue.book(cells_of(1))


def test_real_runs_arrive_and_are_cancelled_within_two_seconds() -> None:
    queue = SweepQueue(start=lambda cells: Sweep(cells, engine_named("serial")))
    cells = (Cell(small_config(), 5), Cell(RunConfig(num_experts=64, batch_tokens=2048), 100_000))
    sweep = queue.book(cells)
    assert eventually(lambda: sweep.done == 1)
    start = time.monotonic()
    sweep.cancel()
    assert eventually(lambda: sweep.over)
    assert time.monotonic() - start < 2
    assert [row["run"] for row in sweep.rows] == [cells[0].run]
    again = queue.book(cells[:1], {row["run"]: row for row in sweep.rows})
    assert eventually(lambda: again.over)
    assert (again.state, again.rows) == ("finished", sweep.rows)
    queue.stop()


def test_a_queued_sweep_can_be_cancelled_before_it_is_created() -> None:
    GatedSweep.made = []
    sweep = QueuedSweep(cells_of(1), {})
    sweep.cancel()
    sweep.work(GatedSweep)
    assert (sweep.state, GatedSweep.made[0].running.is_set()) == ("cancelled", False)
