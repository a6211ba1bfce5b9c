"""A limited number of different runs train at once; the rest wait in a queue, in order, and all take turns."""

from __future__ import annotations

import time

import pytest

from moe_sim.config.run_plan import RunPlan
from moe_sim.config.settings import Settings
from moe_sim.live import admission as admission_module
from moe_sim.live import background_run
from moe_sim.live.admission import TIME_LIMIT, Admission
from moe_sim.live.background_run import DESERTED_AFTER
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.live.scheduler import Scheduler
from moe_sim.live.shared_runs import SharedRuns
from moe_sim.server.messages import encode
from moe_sim.server.server import Server
from tests.support.inspecting import eventually, small_config


def training(seed: int, runs: SharedRuns | None = None) -> LiveRun:
    """A watched run that wants steps."""
    run = LiveRun(small_config(seed=seed), runs=runs)
    run.touch()
    run.train()
    return run


def test_the_first_runs_get_the_places_and_the_rest_know_their_position_in_the_queue() -> None:
    admission, runs = Admission(slots=2), [training(seed) for seed in range(5)]
    assert [admission.admit(run) for run in runs] == [True, True, False, False, False]
    assert [run.queue_position for run in runs] == [0, 0, 1, 2, 3]
    assert (admission.taken, admission.waiting) == (2, 3)
    assert [admission.admit(run) for run in runs] == [True, True, False, False, False]


def test_a_later_run_does_not_jump_the_queue() -> None:
    admission, (first, second, third) = Admission(slots=1), (training(seed) for seed in range(3))
    admission.admit(first)
    admission.admit(second)
    first.pause()
    first.last_watched = -1e9
    assert admission.sweep() == [second]
    assert not admission.admit(third)
    assert admission.admit(second)
    assert (second.queue_position, third.queue_position) == (0, 1)


def test_viewers_of_the_same_run_share_one_place() -> None:
    admission, shared = Admission(slots=1), SharedRuns()
    same = [training(7, shared) for _ in range(20)]
    assert all(admission.admit(run) for run in same)
    assert not admission.admit(training(8, shared))
    assert admission.taken == 1


def test_a_run_that_branches_off_needs_a_place_of_its_own() -> None:
    admission, shared = Admission(slots=1), SharedRuns()
    first, second = training(7, shared), training(7, shared)
    assert admission.admit(first)
    assert admission.admit(second)
    second.advance_by(1)
    second.update(aux_loss_coef=0.1)
    assert not admission.admit(second)
    assert second.queue_position == 1
    assert admission.admit(first)


def test_a_comparison_takes_as_many_places_as_it_has_different_runs() -> None:
    admission = Admission(slots=3)
    base = small_config()
    comparison = Comparison([RunPlan(base), RunPlan(small_config(seed=2)), RunPlan(base)])
    comparison.touch()
    comparison.train()
    assert admission.admit(comparison)
    assert admission.taken == 2
    assert admission.admit(training(5))
    assert not admission.admit(training(6))


def test_a_comparison_larger_than_all_places_is_admitted_alone() -> None:
    admission = Admission(slots=1)
    comparison = Comparison([RunPlan(small_config(seed=seed)) for seed in range(4)])
    comparison.touch()
    comparison.train()
    assert admission.admit(comparison)


def test_a_paused_run_keeps_its_place_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    admission, first, second = Admission(slots=1), training(1), training(2)
    first.advance_by(1)
    admission.admit(first)
    admission.admit(second)
    first.pause()
    assert admission.sweep() == []
    monkeypatch.setattr(admission_module, "HOLD", -1.0)
    assert admission.sweep() == [second]


@pytest.mark.parametrize("end", ["finished", "left", "forgotten"])
def test_a_place_is_free_as_soon_as_its_run_ends(end: str) -> None:
    admission, first, second = Admission(slots=1), training(1), training(2)
    admission.admit(first)
    admission.admit(second)
    if end == "finished":
        first.budget = 0
    else:
        first.pause()
        first.last_watched = -1e9
    assert admission.sweep() == [second]


def test_a_run_paused_while_waiting_leaves_the_queue() -> None:
    admission, runs = Admission(slots=1), [training(seed) for seed in range(3)]
    for run in runs:
        admission.admit(run)
    runs[1].pause()
    assert admission.sweep() == []
    assert [run.queue_position for run in runs] == [0, 0, 1]


def over_time(admission: Admission, seconds: float) -> None:
    """Lets a time pass for all that hold a slot."""
    for run, slot in admission._holders.items():
        admission._holders[run] = slot._replace(since=slot.since - seconds)


def test_a_run_beyond_its_time_goes_to_the_end_of_the_queue_for_those_who_wait() -> None:
    admission, (slow, other, *waiting) = Admission(slots=2), [training(seed) for seed in range(5)]
    admission.admit(slow)
    over_time(admission, 1)
    for run in (other, *waiting[:1]):
        admission.admit(run)
    assert admission.sweep() == []
    over_time(admission, TIME_LIMIT)
    assert admission.sweep() == [waiting[0]], "one waits, so one makes room: the one that has had its slot longest"
    assert [admission.admit(run) for run in (waiting[0], slow, other)] == [True, False, True]
    assert slow.queue_position == 1
    over_time(admission, TIME_LIMIT)
    assert admission.sweep() == [slow]


def test_nobody_loses_a_place_that_nobody_waits_for() -> None:
    admission, run = Admission(slots=1), training(1)
    admission.admit(run)
    over_time(admission, 1e6)
    assert admission.sweep() == []
    assert admission.admit(run)


def test_whoever_shares_a_place_leaves_it_together() -> None:
    admission, shared = Admission(slots=1), SharedRuns()
    same = [training(7, shared) for _ in range(3)]
    other = training(8, shared)
    for run in (*same, other):
        admission.admit(run)
    over_time(admission, 4 * TIME_LIMIT)
    assert admission.sweep() == [other]
    assert admission.admit(other)
    assert [admission.admit(run) for run in same] == [False] * 3
    assert [run.queue_position for run in same] == [1, 2, 3]


def test_a_class_that_follows_a_lecture_keeps_its_place_as_long_as_if_each_student_trained() -> None:
    admission, lecture, alone, newcomer = Admission(slots=2), training(1), training(2), training(3)
    for number in range(30):
        lecture.keep_for(lambda number=number: True)  # type: ignore[misc]
    for run in (lecture, alone, newcomer):
        admission.admit(run)
    over_time(admission, 20 * TIME_LIMIT)
    assert admission.sweep() == [newcomer]
    assert admission.admit(lecture)
    assert not admission.admit(alone)


def test_a_run_whose_sessions_are_gone_loses_its_place_though_its_stream_is_open() -> None:
    admission, first, second = Admission(slots=1), training(1), training(2)
    connected = [True]
    first.keep_for(lambda: connected[0])
    with first.lease():
        for run in (first, second):
            admission.admit(run)
        first.check_sessions()
        assert admission.sweep() == []
        connected[0] = False
        first._sessions = dict.fromkeys(first._sessions, time.monotonic() - DESERTED_AFTER)
        first.check_sessions()
        assert not first.wants_step
        assert admission.sweep() == [second]
        connected[0] = True
        first.check_sessions()
        assert first.wants_step, "the session has come back"


def test_under_a_scheduler_every_run_finishes_and_shows_its_place_while_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background_run, "LEASE_GRACE", 60.0)
    scheduler = Scheduler(Admission(slots=1))
    runs = [scheduler.add(LiveRun(small_config(seed=seed), rate=float("inf"))) for seed in range(3)]
    scheduler.start()
    try:
        for run in runs:
            run.budget = 40
            run.touch()
            run.train()
        message = encode(runs[2], 0)[1]
        assert '"queue_position":' in message or runs[2].steps_done
        assert eventually(lambda: all(run.state == "finished" for run in runs), seconds=30)
    finally:
        scheduler.stop()
    assert [run.queue_position for run in runs] == [0, 0, 0]


def test_a_lecture_hall_behind_one_address_is_refused_nothing() -> None:
    server = Server(Settings(workers=0))
    server.stop()  # only its limits count here
    admission = server.scheduler.admission
    lecture, *own = [training(seed) for seed in range(51)]
    for number, run in enumerate([lecture] * 150 + own):
        run.keep_for(lambda number=number: True)  # type: ignore[misc]
    assert all(admission.admit(run) for run in (lecture, *own))
    over_time(admission, 2 * 3600.0)
    assert admission.sweep() == []
    assert all(admission.admit(run) for run in (lecture, *own))
    assert server.lectures.get(server.lectures.begin(lecture)) is lecture
