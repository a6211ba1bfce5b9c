"""Durations of sweeps: measured once for all visitors, one at a time, and not for those who have left."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from moe_sim import RunConfig
from moe_sim.processes.nursery import Nursery
from moe_sim.sweep import estimate, pace
from moe_sim.sweep.estimate import Estimate, Estimates
from moe_sim.sweep.grid import Cell, Grid
from moe_sim.sweep.pace import LONGEST, TIMED, WARM_UP, seconds_per_step, timed
from tests.support.inspecting import eventually, small_config

PATIENCE = 10.0


class Timing:
    """Stands in for timing: waits for permission, and records what was timed and how many at once."""

    def __init__(self, permits: int = 1_000) -> None:
        self.timed: list[RunConfig] = []
        self.now = self.most = 0
        self.permits = threading.Semaphore(permits)

    def __call__(self, config: RunConfig) -> float:
        self.now += 1
        self.most = max(self.most, self.now)
        assert self.permits.acquire(timeout=20)
        self.timed.append(config)
        self.now -= 1
        return 0.001 * config.num_experts


@pytest.fixture
def timing() -> Timing:
    return Timing()


@pytest.fixture
def estimates(timing: Timing) -> Iterator[Estimates]:
    estimates = Estimates(timing)
    yield estimates
    timing.permits.release(1_000)
    estimates.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "estimates"]


def cells_of(seed: int = 1, steps: int = 100, experts: tuple[int, ...] = (2, 4, 8)) -> tuple[Cell, ...]:
    return Grid(small_config(seed=seed), {"num_experts": experts}, 2, steps).cells()


def test_an_estimate_adds_up_the_times_of_steps_and_shrinks_with_the_workers(estimates: Estimates) -> None:
    found = estimates.of(cells_of(), 2, PATIENCE)
    assert found is not None
    assert found.seconds == pytest.approx(0.001 * (2 + 4 + 8) / 3 * 600 / 2)
    assert found.longest_run == pytest.approx(0.8)
    assert estimates.of([], 2) == Estimate(0.0, 0.0)


def test_the_largest_run_counts_wherever_it_stands(estimates: Estimates) -> None:
    small = [Cell(small_config(seed=seed), 10) for seed in range(20)]
    large = Cell(small_config(batch_tokens=2048, num_experts=64), 10)
    found = estimates.of([*small[:7], large, *small[7:]], 1, PATIENCE)
    assert found is not None
    assert found.longest_run == pytest.approx(0.64)


def test_equal_configurations_are_timed_once_whatever_the_seed_and_the_visitor(
    estimates: Estimates, timing: Timing
) -> None:
    assert estimates.of(cells_of(seed=1), 2, PATIENCE) == estimates.of(cells_of(seed=77), 2)
    assert len(timing.timed) == 3


def test_one_configuration_is_timed_at_a_time_and_nobody_waits_for_it(estimates: Estimates, timing: Timing) -> None:
    timing.permits = threading.Semaphore(0)
    for experts in range(2, 30):
        assert estimates.of(cells_of(experts=(experts,)), 2) is None
    timing.permits.release(1_000)
    assert eventually(lambda: len(timing.timed) == 28)
    assert timing.most == 1


def test_what_nobody_asks_about_any_more_is_not_timed(
    estimates: Estimates, timing: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing.permits = threading.Semaphore(0)
    for experts in (2, 3, 4):
        assert estimates.of(cells_of(experts=(experts,)), 2) is None
    assert eventually(lambda: timing.now == 1)
    monkeypatch.setattr(estimate, "STILL_WANTED", -1.0)
    timing.permits.release(1)
    assert eventually(lambda: estimates._thread is None)
    assert [config.num_experts for config in timing.timed] == [2]


def test_the_number_of_configurations_that_wait_and_that_are_kept_is_bounded(
    estimates: Estimates, timing: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "MOST_WANTED", 5)
    monkeypatch.setattr(estimate, "MOST_KNOWN", 3)
    timing.permits = threading.Semaphore(0)
    for experts in range(2, 30):
        estimates.of(cells_of(experts=(experts,)), 2)
    timing.permits.release(1_000)
    assert eventually(lambda: estimates._thread is None)
    assert len(timing.timed) == 5
    assert len(estimates._known) == 3


def test_a_configuration_that_cannot_be_timed_takes_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    def fail(config: RunConfig) -> float:
        raise ZeroDivisionError

    estimates = Estimates(fail)
    found = estimates.of(cells_of(), 2, PATIENCE)
    assert found == Estimate(math.inf, math.inf)
    assert "could not be timed" in caplog.text
    estimates.stop()


class Steps:
    """A trainer whose steps take a given CPU time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.taken = seconds, 0

    def step(self) -> None:
        self.taken += 1

    def thread_time(self) -> float:
        return self.taken * self.seconds


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, WARM_UP + TIMED), (0.1, WARM_UP + 2), (9.0, 1)])
def test_timing_takes_few_steps_and_fewer_of_long_ones(
    seconds: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Steps(seconds)
    monkeypatch.setattr(pace, "time", trainer)
    assert timed(trainer.step) == pytest.approx(seconds)
    assert trainer.taken == steps
    assert (trainer.taken - WARM_UP) * seconds <= max(LONGEST + seconds, seconds)


def test_a_larger_configuration_is_timed_as_slower(nursery: Nursery) -> None:
    quick = seconds_per_step(nursery, small_config())
    slow = seconds_per_step(nursery, RunConfig(num_experts=64, batch_tokens=1024))
    assert 0 < 2 * quick < slow < 2


def fail_with(error: type[BaseException], config: RunConfig) -> None:
    raise error


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, SystemExit])
def test_what_cannot_be_trained_takes_for_ever(
    error: type[BaseException], nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "time_steps", partial(fail_with, error))
    assert seconds_per_step(nursery, RunConfig()) == math.inf
