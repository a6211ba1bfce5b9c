"""Runs in the background: control, leases, budget, fairness, failure."""

import json
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from moe_sim import PRESETS, Event, RunConfig, Trainer
from moe_sim.config.thresholds import Thresholds
from moe_sim.live import background_run
from moe_sim.live import scheduler as scheduler_module
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun
from moe_sim.live.scheduler import FORGET_AFTER, Scheduler
from moe_sim.server.messages import encode
from moe_sim.server.stream import LiveStream
from moe_sim.trainer.together import Together
from tests.support.asynchronous import run_to_end
from tests.support.inspecting import eventually, small_config, trainer_of, weights


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    scheduler.start()
    yield scheduler
    scheduler.stop()


def fast(scheduler: Scheduler, config: RunConfig | None = None, **options: object) -> LiveRun:
    return scheduler.add(LiveRun(config or RunConfig(), rate=math.inf, **options))  # type: ignore[arg-type]


def test_a_new_run_is_ready_and_waits_for_train(scheduler: Scheduler) -> None:
    run = fast(scheduler)
    with run.lease():
        assert run.state == "ready"
        assert len(run.history) == 0
        assert not run.wants_step


def test_train_trains_and_pause_stops(scheduler: Scheduler) -> None:
    run = fast(scheduler)
    with run.lease():
        run.train()
        assert eventually(lambda: len(run.history) >= 30)
        run.pause()
        assert run.state == "paused"
        done = len(run.history)
        assert not eventually(lambda: len(run.history) > done + 1, seconds=0.3)


def test_a_single_step_is_exactly_one_step(scheduler: Scheduler) -> None:
    run = fast(scheduler)
    with run.lease():
        run.single_step()
        assert eventually(lambda: len(run.history) == 1)
        assert not eventually(lambda: len(run.history) > 1, seconds=0.3)
        assert run.state == "paused"
        assert run.probe.step == 1


def test_the_budget_ends_a_run_and_extending_it_continues_the_run(scheduler: Scheduler) -> None:
    run = fast(scheduler)
    run.budget = 25
    with run.lease():
        run.train()
        assert eventually(lambda: run.state == "finished")
        assert len(run.history) == 25
        run.extend(10)
        assert eventually(lambda: len(run.history) == 35)


def test_a_run_without_viewers_stops_after_the_grace_period_and_a_viewer_wakes_it(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_run, "LEASE_GRACE", 0.2)
    run = fast(scheduler)
    run.budget = 10**6
    with run.lease():
        run.train()
        assert eventually(lambda: len(run.history) > 5)
    assert eventually(lambda: not run.queued)
    rested = len(run.history)
    assert not eventually(lambda: len(run.history) > rested, seconds=0.3)
    assert run.state == "training"
    with run.lease():
        assert eventually(lambda: len(run.history) > rested)


def test_a_run_keeps_to_its_rate(scheduler: Scheduler) -> None:
    run = scheduler.add(LiveRun(RunConfig(), rate=30.0))
    with run.lease():
        run.train()
        started = time.monotonic()
        assert eventually(lambda: len(run.history) >= 30)
        # 30 steps at 30 steps/s: 29 waits of 1/30 s, however fast the machine is.
        assert time.monotonic() - started > 0.9


def test_overloaded_runs_advance_equally_fast(scheduler: Scheduler) -> None:
    runs = [fast(scheduler) for _ in range(6)]
    for run in runs:
        run.budget = 10**6
        run.touch()
        run.train()
    assert eventually(lambda: sum(len(run.history) for run in runs) > 900)
    for run in runs:
        run.pause()
    steps = [len(run.history) for run in runs]
    assert min(steps) >= 0.5 * sum(steps) / len(steps)


def test_a_background_run_has_the_numbers_of_a_lone_trainer(scheduler: Scheduler) -> None:
    others = [fast(scheduler, RunConfig(seed=seed)) for seed in (1, 2)]
    run = fast(scheduler, plan=PRESETS["too-late"].plan)
    run.budget = 420
    for each in (*others, run):
        each.touch()
        each.train()
    with run.lease():
        assert eventually(lambda: run.state == "finished")
    alone = Trainer(RunConfig())
    alone.run(400)
    alone.update(aux_loss_coef=0.1)
    alone.run(20)
    assert run.history.to_frame().equals(alone.history.to_frame())


def test_a_change_by_hand_cancels_planned_changes_of_the_same_knob() -> None:
    plan = PRESETS["too-late"].plan
    run = LiveRun(RunConfig(), plan)
    assert run.start_config == RunConfig()
    run.update(aux_loss_coef=0.03)
    assert run.plan == ()
    assert run.start_config == RunConfig(aux_loss_coef=0.03)


def test_changing_another_knob_leaves_the_plan_alone() -> None:
    run = LiveRun(RunConfig(), PRESETS["too-late"].plan)
    run.update(learning_rate=0.001)
    assert run.plan == PRESETS["too-late"].plan


def test_an_error_in_a_step_ends_that_run_only_and_is_logged(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = fast(scheduler), fast(scheduler, RunConfig(seed=1))
    trainer, compute = trainer_of(broken), Together._compute

    def faulty(self: Together) -> Any:
        if trainer in self.trainers:
            raise MemoryError("no memory left")
        return compute(self)

    monkeypatch.setattr(Together, "_compute", faulty)
    for run in (broken, sound):
        run.touch()
        run.train()
    assert eventually(lambda: broken.state == "failed" and len(sound.history) > 20)
    assert "no memory left" in caplog.text
    assert json.loads(encode(broken, 0)[1])["diagnosis"]["state"] == "Stopped"


def test_a_diverged_run_stops_with_its_last_healthy_probe(scheduler: Scheduler) -> None:
    run = fast(scheduler, RunConfig(learning_rate=1000))
    run.touch()
    run.train()
    assert eventually(lambda: run.state == "diverged")
    assert run.history.to_frame()["task_loss"].notna().all()
    assert run.probe.step <= len(run.history)


def test_a_slow_start_grows_from_5_steps_per_second_to_the_chosen_rate_over_100_steps() -> None:
    run = LiveRun(RunConfig())
    assert run.target_rate == 60
    run.slow_start = True
    rates = [run.target_rate]
    for _ in range(2):
        run.advance_by(50)
        rates.append(run.target_rate)
    # 5 · 12^(1/2) after half of the way
    assert rates == pytest.approx([5, 17.3205, 60], rel=1e-4)


def test_a_slow_start_is_never_faster_than_the_rate_and_ends_when_one_is_set() -> None:
    run = LiveRun(RunConfig(), rate=1.0)
    run.slow_start = True
    assert run.target_rate == 1
    run.set_rate(math.inf)
    assert (run.slow_start, run.target_rate) == (False, math.inf)


def test_a_rate_that_is_not_offered_is_refused() -> None:
    with pytest.raises(ValueError, match="rate must be one of"):
        LiveRun(RunConfig()).set_rate(61)


def test_idle_runs_are_forgotten(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "SWEEP_INTERVAL", 0.05)
    idle, other = fast(scheduler), fast(scheduler)
    idle.last_watched -= FORGET_AFTER + 1
    other.train()
    assert eventually(lambda: scheduler.get(idle.id) is None)
    assert scheduler.get(other.id) is other


def test_a_removed_run_cannot_be_found_and_stops(scheduler: Scheduler) -> None:
    run = fast(scheduler)
    run.train()
    scheduler.remove(run)
    assert scheduler.get(run.id) is None
    assert run.state in ("ready", "paused")


def test_stopping_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    scheduler = Scheduler()
    run = fast(scheduler)
    run.touch()
    run.train()
    scheduler.start()
    scheduler.start()
    assert eventually(lambda: len(run.history) > 5)
    assert len(set(threading.enumerate()) - before) == 1, "one takes turns"
    scheduler.stop()
    assert not set(threading.enumerate()) - before


def test_run_ids_are_unguessable() -> None:
    ids = {LiveRun(RunConfig()).id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(run_id) >= 20 for run_id in ids)


def test_a_change_by_hand_that_conflicts_with_the_start_of_the_plan_cancels_the_plan() -> None:
    run = LiveRun(RunConfig(), (Event(0, {"top_k": 2}),))
    run.follow_plan()
    run.update(renormalize=True)
    assert run.plan == ()
    assert run.start_config == RunConfig(top_k=2, renormalize=True)


def test_a_planned_change_that_has_become_invalid_is_skipped(scheduler: Scheduler) -> None:
    run = fast(scheduler, RunConfig(top_k=2), plan=(Event(5, {"top_k": 1}),))
    run.update(renormalize=True)
    run.budget = 10
    with run.lease():
        run.train()
        assert eventually(lambda: run.state == "finished")
    assert run.config.top_k == 2


def test_a_forgotten_run_ends_its_streams(scheduler: Scheduler) -> None:
    run = fast(scheduler)
    scheduler.remove(run)

    async def watch() -> list[object]:
        return [message async for message in LiveStream(lambda _: run, Lectures()).messages(run, 0)]

    assert [event.event for event in run_to_end(watch)] == ["gone"]


def test_thresholds_change_the_diagnosis_but_no_computed_number(scheduler: Scheduler) -> None:
    runs = [fast(scheduler, small_config(num_experts=8)) for _ in range(2)]
    runs[1].thresholds = Thresholds(collapse_share=1, dead_share=0, healthy_low=0, healthy_high=4)
    for run in runs:
        run.budget = 60
        with run.lease():
            run.train()
            assert eventually(lambda run=run: run.state == "finished")
    usual, lenient = (json.loads(encode(run, 0)[1]) for run in runs)
    assert usual["diagnosis"]["state"] != lenient["diagnosis"]["state"]
    assert usual["tiles"]["dead"] > lenient["tiles"]["dead"] == 0
    assert usual["rows"] == lenient["rows"]
    assert runs[0].history.to_frame().equals(runs[1].history.to_frame())


def test_a_frozen_run_keeps_routing_with_fixed_weights_and_can_be_unfrozen(scheduler: Scheduler) -> None:
    run = fast(scheduler, small_config())
    run.budget = 10**6
    with run.lease():
        run.train()
        assert eventually(lambda: len(run.history) > 20)
        run.update(frozen=True)
        held, frozen_at = weights(trainer_of(run)), run.history.events[-1].step
        assert eventually(lambda: len(run.history) > frozen_at + 20)
        assert run.state == "training"
        for name, value in weights(trainer_of(run)).items():
            np.testing.assert_array_equal(value, held[name])
        assert not run.history.layer().column("weight_change", frozen_at).any()
        assert run.history.layer().column("weight_change", 0, frozen_at).any(1).all()
        run.update(frozen=False)
        thawed_at = run.history.events[-1].step
        assert eventually(lambda: len(run.history) > thawed_at + 5)
        assert run.history.layer().column("weight_change", thawed_at).any(1).all()


def test_a_planned_freeze_and_shift_have_the_numbers_of_a_lone_trainer(scheduler: Scheduler) -> None:
    plan = (Event(10, {"frozen": True}), Event(20, {"topic_skew": 2.0, "topic_shift": 8}))
    run = fast(scheduler, small_config(), plan=plan)
    run.budget = 35
    with run.lease():
        run.train()
        assert eventually(lambda: run.state == "finished")
    alone = Trainer(small_config())
    alone.run(10)
    alone.update(frozen=True)
    alone.run(10)
    alone.update(topic_skew=2.0, topic_shift=8)
    alone.run(15)
    assert run.history.to_frame().equals(alone.history.to_frame())
    assert run.start_config == small_config()


def test_freezing_by_hand_cancels_the_planned_freeze_and_keeps_the_shift() -> None:
    plan = PRESETS["distribution-shift"].plan
    run = LiveRun(PRESETS["distribution-shift"].config(), plan)
    run.update(frozen=True)
    assert run.plan == plan[1:]
    assert run.start_config.frozen
