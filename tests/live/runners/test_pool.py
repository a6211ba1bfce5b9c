"""Worker processes give the same numbers as this process, to the last digit, and no run is lost with a process."""

from __future__ import annotations

import gc
import json
import math
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from moe_sim import Event
from moe_sim.live.live_run import LiveRun
from moe_sim.live.runners import pool
from moe_sim.live.runners.pool import Pool, RemoteRunner
from moe_sim.live.shared_runs import SharedRuns
from moe_sim.processes.nursery import Nursery
from moe_sim.server.messages import encode
from tests.live.test_computed_run import alone, assert_same_numbers
from tests.support.inspecting import eventually, small_config

PLAN = (Event(12, {"aux_loss_coef": 0.2}), Event(30, {"top_k": 2}))
PLANNED_CHANGES: dict[int, dict[str, Any]] = {event.step: event.changes for event in PLAN}


@pytest.fixture(scope="module")
def two_processes() -> Iterator[Pool]:
    """A pool of two ready processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "START_AGAIN", 0.0)
        nursery = Nursery()
        workers = Pool(nursery)
        workers.use(2)
        workers.begin(small_config(), ())
        assert eventually(lambda: len(workers.processes) == 2)
        yield workers
    children = [worker.pid for worker in workers.processes]
    workers.stop()
    nursery.stop()
    assert not any(psutil.pid_exists(pid) for pid in children)


@pytest.fixture
def workers(two_processes: Pool) -> Pool:
    """The pool that computes the runs of this test, with both processes ready."""
    assert eventually(lambda: len(two_processes.processes) == 2)
    return two_processes


@pytest.fixture
def shared(workers: Pool) -> SharedRuns:
    return SharedRuns(workers)


def computed_by(run: LiveRun) -> RemoteRunner:
    runner = run._computed._runner
    assert isinstance(runner, RemoteRunner)
    return runner


@pytest.mark.parametrize("knobs", [{}, {"task": "text"}, {"router_noise": "gaussian", "balancing": "bias"}])
def test_a_run_in_a_worker_process_has_the_numbers_of_a_local_trainer(
    knobs: dict[str, Any], shared: SharedRuns
) -> None:
    run = LiveRun(small_config(**knobs), PLAN, runs=shared)
    assert run.worker > 0
    run.advance_by(25)
    run.update(z_loss_coef=0.5)
    run.advance_by(15)
    assert_same_numbers(run.history, alone(small_config(**knobs), {**PLANNED_CHANGES, 25: {"z_loss_coef": 0.5}}, 40))
    assert run.probe.step == 40


def test_runs_are_spread_over_the_processes_and_equal_runs_are_shared(shared: SharedRuns) -> None:
    runs = [LiveRun(small_config(seed=seed), runs=shared) for seed in range(6)]
    assert sorted(run.worker for run in runs) == [1, 1, 1, 2, 2, 2]
    assert LiveRun(small_config(seed=3), runs=shared)._computed is runs[3]._computed


def test_requests_that_wait_are_answered_together_and_in_order(shared: SharedRuns) -> None:
    runs = [LiveRun(small_config(seed=seed), PLAN, runs=shared) for seed in range(20)]
    with ThreadPoolExecutor(20) as threads:
        for _ in range(5):
            list(threads.map(lambda run: run.advance_by(8), runs))
    for seed, run in enumerate(runs):
        assert_same_numbers(run.history, alone(small_config(seed=seed), PLANNED_CHANGES, 40))


def test_a_change_by_hand_continues_in_the_same_process_from_a_copy(shared: SharedRuns) -> None:
    leader, run = LiveRun(small_config(), PLAN, runs=shared), LiveRun(small_config(), PLAN, runs=shared)
    leader.advance_by(120)
    run.advance_by(105)
    run.update(z_loss_coef=0.5)
    assert run.worker == leader.worker
    run.advance_by(10)
    assert_same_numbers(run.history, alone(small_config(), {**PLANNED_CHANGES, 105: {"z_loss_coef": 0.5}}, 115))


def test_runs_survive_a_killed_process_and_a_new_one_starts(workers: Pool, shared: SharedRuns) -> None:
    run, changed = LiveRun(small_config(), PLAN, runs=shared), LiveRun(small_config(seed=2), runs=shared)
    run.advance_by(20)
    changed.advance_by(20)
    changed.update(aux_loss_coef=0.4)
    for worker in workers.processes:
        os.kill(worker.pid, signal.SIGKILL)
    run.advance_by(20)
    changed.update(z_loss_coef=0.1)
    changed.advance_by(20)
    assert_same_numbers(run.history, alone(small_config(), PLANNED_CHANGES, 40))
    both = {20: {"aux_loss_coef": 0.4, "z_loss_coef": 0.1}}
    assert_same_numbers(changed.history, alone(small_config(seed=2), both, 40))
    LiveRun(small_config(seed=5), runs=shared)
    assert eventually(lambda: len(workers.processes) == 2)


def test_a_run_of_a_killed_process_says_how_far_it_has_been_computed_again(workers: Pool, shared: SharedRuns) -> None:
    run, other = LiveRun(small_config(), runs=shared), LiveRun(small_config(seed=2), runs=shared)
    run.rate = other.rate = 1.0
    for one in (run, other):
        one.advance_by(60)
    (lost,) = (worker for worker in workers.processes if worker.number == run.worker)
    os.kill(lost.pid, signal.SIGKILL)
    seen = []
    run.train()
    while run.steps_done == 60:
        run.advance_by(1, 0.001)
        seen.append(run.recomputed)
        assert run.target_rate == (1.0 if run.recomputed is None else math.inf)
        assert ("recomputed" in json.loads(encode(run, 60)[1])) == (run.recomputed is not None)
    known = [steps for steps in seen if steps is not None]
    assert known == sorted(known)
    assert len(set(known)) > 3
    assert seen[-1] is None
    assert other.recomputed is None


def test_an_error_in_a_process_ends_that_run_only(workers: Pool, shared: SharedRuns) -> None:
    broken, sound = LiveRun(small_config(seed=1), runs=shared), LiveRun(small_config(seed=2), runs=shared)
    computed_by(broken)._number = -1  # the process knows no such run
    broken.touch()
    broken.train()
    broken.advance()
    assert broken.state == "failed"
    sound.advance_by(5)
    assert sound.steps_done == 5
    assert len(workers.processes) == 2


def test_a_process_releases_runs_that_are_no_longer_in_use(workers: Pool, shared: SharedRuns) -> None:
    for seed in range(30):
        LiveRun(small_config(seed=seed), runs=shared).advance_by(1)
    del seed
    gc.collect()  # of other tests, too
    assert sum(len(worker.handles) for worker in workers.processes) <= 2


def test_a_young_run_moves_from_this_process_to_a_worker_process(workers: Pool) -> None:
    pool = Pool()
    runs = SharedRuns(pool)
    young, old = LiveRun(small_config(), PLAN, runs=runs), LiveRun(small_config(seed=2), runs=runs)
    young.advance_by(20)
    old.advance_by(310)
    pool._workers = list(workers.processes)
    young.advance_by(20)
    old.advance_by(1)
    assert (young.worker > 0, old.worker) == (True, 0)
    assert_same_numbers(young.history, alone(small_config(), PLANNED_CHANGES, 40))


def test_a_process_ends_with_the_server_that_started_it(workers: Pool) -> None:
    worker = workers.processes[0]
    worker._process.stdin.close()
    assert eventually(lambda: not worker.alive)
