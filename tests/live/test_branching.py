"""Branches continue a run from its current step; recorded runs cannot be changed."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest

from moe_sim import Event, History, RunConfig
from moe_sim.config.codec import events_from_text, events_to_text
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_json import run_to_json
from moe_sim.live.live_run import LiveRun
from moe_sim.server.messages import encode
from tests.support.inspecting import small_config, trainer_of, weights

PLAN = (Event(8, {"aux_loss_coef": 0.05}), Event(12, {"topic_skew": 2.0, "topic_shift": 3}))
MOVES: dict[int, dict[str, Any]] = {
    0: {"router_noise": "learned"},
    5: {"top_k": 2, "capacity_factor": 1.0},
    8: {"z_loss_coef": 0.01},
    15: {"balancing": "bias"},
    19: {"frozen": True},
    23: {"frozen": False, "capacity_factor": None},
}


def advance(run: LiveRun, steps: int) -> LiveRun:
    """Takes `steps` steps as the scheduler would, one per turn."""
    run.touch()
    rate, run.rate = run.rate, 15.0
    stop = len(run.history) + steps
    run.train()
    while len(run.history) < stop and run.wants_step:
        run.advance()
    run.pause()
    run.rate = rate
    return run


def handled(config: RunConfig, plan: tuple[Event, ...] = (), steps: int = 30) -> LiveRun:
    """A run with knobs changed by hand, as in `MOVES`."""
    run = LiveRun(config, plan)
    for step in range(steps):
        if step in MOVES:
            run.update(**MOVES[step])
        advance(run, 1)
    return run


def catch_up(run: LiveRun) -> LiveRun:
    """Advances the run for as long as it wants steps."""
    run.touch()
    while run.wants_step:
        run.advance()
    return run


def assert_same(one: History, other: History) -> None:
    assert one.initial_config == other.initial_config
    assert one.events == other.events
    assert one.to_frame().equals(other.to_frame())


def first_message(run: LiveRun) -> dict[str, Any]:
    return json.loads(encode(run, 0)[1])


@pytest.fixture(scope="module")
def original() -> LiveRun:
    """Thirty steps with planned changes and changes by hand."""
    return handled(small_config(), PLAN)


@pytest.mark.parametrize("knobs", [{}, {"task": "text"}, {"balancing": "expert_choice"}, {"router_noise": "gaussian"}])
def test_a_branch_equals_its_run_to_the_last_digit_and_waits(knobs: dict[str, Any]) -> None:
    run = advance(LiveRun(small_config(**knobs)), 25)
    branch = run.branch()
    assert branch.id != run.id
    assert not branch.catching_up
    assert branch.target_rate == branch.rate == run.rate
    assert branch.state == "paused"
    assert len(branch.history) == 25
    assert_same(branch.history, run.history)


def test_a_branch_includes_changes_by_hand_and_by_plan(original: LiveRun) -> None:
    assert {event.step for event in original.history.events} == {*MOVES, 8, 12}
    branch = catch_up(original.branch())
    assert_same(branch.history, original.history)
    assert branch.config == original.config
    assert branch.state == "paused"
    for name, value in weights(trainer_of(original)).items():
        np.testing.assert_array_equal(weights(trainer_of(branch))[name], value)


def test_a_branch_continues_as_its_run_would_and_branches_are_independent(original: LiveRun) -> None:
    length = len(original.history)
    one, other = (catch_up(original.branch()) for _ in range(2))
    advance(one, 10)
    assert len(other.history) == len(original.history) == length
    advance(other, 10)
    assert_same(one.history, other.history)
    other.update(aux_loss_coef=5.0)
    advance(one, 5)
    advance(other, 5)
    assert not one.history.to_frame().equals(other.history.to_frame())
    assert one.history.to_frame()[:40].equals(other.history.to_frame()[:40])


def test_a_branch_of_a_branch_equals_the_original_run(original: LiveRun) -> None:
    assert_same(catch_up(catch_up(original.branch()).branch()).history, original.history)


def test_a_branch_inherits_budget_speed_and_thresholds() -> None:
    run = LiveRun(small_config())
    run.budget, run.thresholds = 7_000, Thresholds(dead_share=0.3)
    run.set_rate(5.0)
    branch = run.branch()
    assert (branch.budget, branch.rate, branch.thresholds) == (7_000, 5.0, Thresholds(dead_share=0.3))
    assert branch.state == "ready"
    assert not branch.wants_step


def test_a_change_at_the_step_of_the_branch_applies_from_the_next_step() -> None:
    run = advance(LiveRun(small_config()), 10)
    run.update(aux_loss_coef=1.0)
    branch = catch_up(run.branch())
    advance(run, 5)
    advance(branch, 5)
    assert_same(branch.history, run.history)


def test_a_branch_can_be_set_to_train_while_it_catches_up() -> None:
    run = advance(LiveRun(small_config()), 20)
    branch = record(run).branch()
    branch.extend(1_000)
    branch.set_rate(15.0)
    branch.touch()
    branch.train()
    while len(branch.history) < 25:
        branch.advance()
    assert branch.state == "training"
    assert len(branch.history) == 25
    assert branch.history.to_frame()[:20].equals(run.history.to_frame())


def test_a_single_step_requested_during_catch_up_follows_it() -> None:
    run = LiveRun.again(small_config(), (), 20)
    run.touch()
    run.advance()
    assert run.catching_up
    run.single_step()
    catch_up(run)
    assert len(run.history) == 21


def test_a_branch_of_a_finished_run_is_finished_and_can_be_extended() -> None:
    run = LiveRun(small_config())
    run.budget = 12
    advance(run, 100)
    branch = catch_up(run.branch())
    assert run.state == branch.state == "finished"
    branch.extend(3)
    advance(branch, 100)
    assert len(branch.history) == 15


def test_a_branch_of_a_diverged_run_diverges_at_the_same_step() -> None:
    run = advance(LiveRun(RunConfig(learning_rate=1000, num_experts=4)), 50)
    branch = catch_up(run.branch())
    assert run.state == "diverged"
    assert branch.history.to_frame().equals(run.history.to_frame())
    advance(branch, 1)
    assert branch.state == "diverged"


def record(run: LiveRun) -> LiveRun:
    return LiveRun.recorded(*run_from_json(run_to_json(run.history, run.probe)))


def test_a_recorded_run_is_finished_and_nothing_changes_it(original: LiveRun, caplog: pytest.LogCaptureFixture) -> None:
    recorded = record(original)
    before, probe, config = recorded.history.to_frame(), recorded.probe, recorded.config
    for act in (recorded.train, recorded.extend, recorded.single_step, recorded.pause, recorded.touch):
        act()
        recorded.advance()
    recorded.update(aux_loss_coef=3.0)
    recorded.update(frozen=True)
    with recorded.lease():
        recorded.advance()
    assert recorded.state == "finished"
    assert not recorded.wants_step
    assert recorded.budget == len(recorded.history) == 30
    assert recorded.history.to_frame().equals(before)
    assert recorded.history.events == original.history.events
    assert recorded.config == config
    assert recorded.probe is probe
    assert not [entry for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_a_recorded_run_sends_the_browser_the_same_message(original: LiveRun) -> None:
    recorded, first = first_message(record(original)), first_message(original)
    assert recorded.pop("state") == "finished"
    assert first.pop("state") == "paused"
    for message in (recorded, first):
        for name in ("budget", "extendable", "speed", "rate", "planned_changes"):
            del message[name]
    assert set(recorded) == set(first)
    for name in first:
        assert recorded[name] == first[name], name


def test_a_recorded_run_has_the_final_configuration_of_its_run(original: LiveRun) -> None:
    assert record(original).config == original.config


def test_start_and_plan_of_a_recorded_run_reproduce_it(original: LiveRun) -> None:
    recorded = record(original)
    config = recorded.start_config
    assert config == original.history.initial_config
    plan, notices = events_from_text(events_to_text(recorded.plan), config)
    assert not notices
    again = advance(LiveRun(config, plan), 30)
    assert_same(again.history, original.history)


def test_a_branch_of_a_recorded_run_is_retrained_and_can_continue(original: LiveRun) -> None:
    branch = catch_up(record(original).branch())
    assert_same(branch.history, original.history)
    assert not branch.is_recorded
    branch.extend(5)
    advance(branch, 5)
    assert len(branch.history) == 35


def test_a_recorded_run_without_steps_or_probe_can_be_viewed() -> None:
    recorded = LiveRun.recorded(History(small_config()), None)
    recorded.train()
    recorded.touch()
    recorded.advance()
    assert recorded.state == "finished"
    assert len(recorded.history) == 0
    assert first_message(recorded)["to"] == 0
