"""Turns of several runs at once: who takes part, who waits, and that nobody holds up the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from moe_sim import RunConfig
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.computed_run import reach_together
from moe_sim.live.live_run import LiveRun, take_turns
from moe_sim.live.scheduler import TOGETHER, WorkerQueue
from tests.support.inspecting import small_config


@pytest.fixture
def queue() -> Iterator[WorkerQueue]:
    queue = WorkerQueue(threading.RLock(), 1, "test")
    yield queue
    queue.comparisons.shutdown()


def push(queue: WorkerQueue, run: BackgroundRun, due: float) -> None:
    with queue.changed:
        queue.push(due, run)


def trains(seed: int = 0) -> LiveRun:
    run = LiveRun(small_config(seed=seed))
    run.touch()
    run.train()
    return run


@contextmanager
def held(lock: threading.RLock) -> Iterator[None]:
    """Another thread holds the lock."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(60)
    yield
    done.set()
    thread.join()


def test_whoever_is_due_soon_goes_with_the_one_that_is_due(queue: WorkerQueue) -> None:
    late, due, soon, later = (LiveRun(RunConfig(seed=seed)) for seed in range(4))
    for run, at in ((later, 10 + 1.1 * TOGETHER), (soon, 10 + 0.9 * TOGETHER), (due, 10.0), (late, 9.5)):
        push(queue, run, at)
    assert queue.pop(9.0) == []
    assert queue.pop(9.49) == []  # nobody is due, though one is soon
    assert queue.pop(10.0) == [(9.5, late), (10.0, due), (10 + 0.9 * TOGETHER, soon)]
    assert queue.pop(10.0) == []
    assert queue.pop(10.2) == [(10 + 1.1 * TOGETHER, later)]


def test_runs_take_their_turns_together_each_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_sim.live.live_run.TURN", 60.0)  # the eight steps must not run out of time
    fast, slow, ready = trains(), trains(1), LiveRun(small_config(seed=2))
    fast.set_rate(120.0)
    slow.set_rate(1.0)
    take_turns([fast, slow, ready])
    assert (fast.steps_done, slow.steps_done, ready.steps_done) == (8, 1, 0)


def test_a_run_that_is_being_changed_takes_no_step_and_holds_up_nobody() -> None:
    busy, asked, free = trains(), trains(1), trains(2)
    with held(busy._lock), held(asked._computed._lock):
        take_turns([busy, asked, free])
        assert (busy.steps_done, asked.steps_done) == (0, 0)
        assert free.steps_done > 0
    take_turns([busy, asked, free])
    assert min(busy.steps_done, asked.steps_done) > 0
    assert busy._lock.acquire(timeout=1), "the turn has ended"


def test_a_run_that_fails_is_told_apart_and_the_others_have_their_steps(caplog: pytest.LogCaptureFixture) -> None:
    sound, failed = trains(), trains(1)
    failed._computed.failed = True
    [reached, error] = reach_together([(sound._computed, 3), (failed._computed, 3)], 100)
    assert reached == 3
    assert isinstance(error, RuntimeError)
    take_turns([failed, sound])
    assert (failed.state, sound.state) == ("failed", "training")
    assert sound.steps_done > 0
    assert "Run failed after step 0" in caplog.text


def test_an_error_of_no_single_run_ends_the_turn_and_lets_go_of_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("moe_sim.live.live_run.reach_together", fail)
    runs = [trains(), trains(1)]
    take_turns(runs)
    assert [run.state for run in runs] == ["failed", "failed"]
    with held(runs[0]._lock), held(runs[1]._lock):
        pass  # another thread gets the locks at once
