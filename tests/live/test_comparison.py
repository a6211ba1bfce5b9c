"""Runs in lockstep: identical until the first differing update, and controlled together."""

from __future__ import annotations

import logging
import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from moe_sim import Event, History, RunConfig, Trainer
from moe_sim.config.comparison_presets import COMPARISONS
from moe_sim.config.run_plan import RunPlan, difference_in_words
from moe_sim.config.thresholds import Thresholds
from moe_sim.live.background_run import DEFAULT_BUDGET
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.live.scheduler import Scheduler
from moe_sim.trainer.together import Together
from tests.support.comparing import advance, side_by_side, steps_of
from tests.support.inspecting import eventually, small_config, trainer_of, weights

DIVERGING = {0: {"learning_rate": 1000.0}}


def alone(plan: RunPlan, steps: int) -> Trainer:
    """The run of a lone trainer, with the planned changes made by hand."""
    trainer, changes = Trainer(plan.config), {event.step: event.changes for event in plan.events}
    for step in range(steps):
        if step in changes:
            trainer.update(**changes[step])
        trainer.step()
    return trainer


def frames(comparison: Comparison) -> list[pd.DataFrame]:
    return [member.history.to_frame() for member in comparison.members]


def same_numbers(one: History, other: History) -> bool:
    return one.events == other.events and one.to_frame().equals(other.to_frame())


@pytest.mark.parametrize("knobs", [{}, {"task": "text"}, {"router_noise": "gaussian"}, {"balancing": "sinkhorn"}])
def test_runs_are_identical_to_the_last_digit_until_the_first_differing_update(knobs: dict[str, Any]) -> None:
    late, later = ({step: {"learning_rate": 0.05}} for step in (12, 17))
    one, other, third = frames(advance(side_by_side(late, later, **knobs), 25))
    assert one[:12].equals(other[:12])
    assert one[:17].equals(third[:17])
    forward = ["task_loss", "balance_loss", "load_0", "importance_0", "router_entropy", "grad_norm_0"]
    assert one.loc[12, forward].equals(other.loc[12, forward]), (
        "the step after the change still starts from equal weights"
    )
    assert one.loc[12, "weight_change_0"] != other.loc[12, "weight_change_0"]
    assert (one.loc[13:, "task_loss"] != other.loc[13:, "task_loss"]).all()
    assert one.loc[16, "weight_change_0"] == third.loc[16, "weight_change_0"]
    assert one.loc[17, "weight_change_0"] != third.loc[17, "weight_change_0"]


def test_runs_of_different_sizes_see_the_same_data(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = side_by_side({0: {"num_experts": 6}}, {0: {"expert_hidden_size": 16, "top_k": 2}}, {5: {"top_k": 3}})
    seen: dict[Trainer, list[tuple[torch.Tensor, torch.Tensor]]] = {
        trainer_of(member): [] for member in comparison.members
    }
    compute = Together._compute

    def noted(self: Together) -> Any:
        computed = compute(self)
        assert computed is not None
        for index, trainer in enumerate(self.trainers):
            inputs, labels = computed[0].inputs, computed[0].labels
            seen[trainer].append((inputs, labels) if len(self.trainers) == 1 else (inputs[index], labels[index]))
        return computed

    monkeypatch.setattr(Together, "_compute", noted)
    advance(comparison, 8)
    assert [len(batches) for batches in seen.values()] == [8, 8, 8, 8]
    for first, *others in zip(*seen.values(), strict=True):
        for batch in others:
            assert torch.equal(batch[0], first[0])
            assert torch.equal(batch[1], first[1])


def test_each_run_equals_that_of_a_lone_trainer() -> None:
    comparison = side_by_side({4: {"top_k": 2, "capacity_factor": 1.0}}, {0: {"num_experts": 6}, 9: {"frozen": True}})
    plans = comparison.plans
    advance(comparison, 20)
    for member, plan in zip(comparison.members, plans, strict=True):
        trainer = alone(plan, 20)
        assert same_numbers(member.history, trainer.history)
        for name, value in weights(trainer).items():
            np.testing.assert_array_equal(weights(trainer_of(member))[name], value)


def test_under_a_scheduler_no_run_gets_more_than_one_step_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = side_by_side({10: {"aux_loss_coef": 0.1}}, {0: {"num_experts": 6}})
    comparison.rate, comparison.budget = math.inf, 60
    seen: list[list[int]] = []
    arrive = LiveRun._arrive

    def noted(self: LiveRun, *where: Any) -> None:
        seen.append(steps_of(comparison))
        arrive(self, *where)
        seen.append(steps_of(comparison))
        counted.append(self in comparison.members)

    counted: list[bool] = []
    monkeypatch.setattr(LiveRun, "_arrive", noted)
    scheduler = Scheduler()
    beside = LiveRun(small_config(seed=1), rate=math.inf)
    for run in (comparison, beside):
        scheduler.add(run)
        run.touch()
        run.train()
    scheduler.start()
    try:
        assert eventually(lambda: comparison.state == "finished")
    finally:
        scheduler.stop()
    assert steps_of(comparison) == [60, 60, 60]
    assert sum(counted) == 60 * 3
    assert {max(steps) - min(steps) for steps in seen} == {0, 1}
    assert same_numbers(comparison.members[1].history, alone(comparison.plans[1], 60).history)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_comparison_has_two_to_four_runs(count: int) -> None:
    with pytest.raises(ValueError, match=f"2 to 4 runs, not {count}"):
        Comparison([RunPlan(small_config())] * count)


def test_one_diverging_run_does_not_stop_the_others() -> None:
    comparison = advance(side_by_side(DIVERGING), 40)
    ahead, lost = comparison.members
    assert lost.diverged
    assert lost.steps_done < 40 == ahead.steps_done == comparison.steps_done
    assert (comparison.state, comparison.diverged, lost.state) == ("paused", False, "diverged")
    assert same_numbers(ahead.history, alone(RunPlan(small_config()), 40).history)


def test_a_comparison_ends_when_all_runs_have_diverged() -> None:
    comparison = advance(side_by_side({}, learning_rate=1000.0), 60)
    assert comparison.diverged
    assert comparison.state == "diverged"
    assert not comparison.wants_step
    assert comparison.steps_done < 60


def test_an_error_in_one_run_ends_the_comparison_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    comparison = side_by_side({})

    def explode(*_: object) -> None:
        raise MemoryError("no memory left")

    trainer_of(comparison.members[1]).task.batch = explode  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.ERROR):
        advance(comparison, 5)
    assert comparison.state == "failed"
    assert "no memory left" in caplog.text


def test_train_pause_and_single_steps_act_on_all_runs() -> None:
    comparison = side_by_side({0: {"aux_loss_coef": 0.1}})
    assert (comparison.state, comparison.steps_done) == ("ready", 0)
    assert not comparison.wants_step
    comparison.touch()
    comparison.set_rate(15.0)  # one step per turn
    comparison.train()
    assert {comparison.state, *(member.state for member in comparison.members)} == {"training"}
    for _ in range(3):
        comparison.advance()
    comparison.pause()
    comparison.advance()
    assert steps_of(comparison) == [3, 3]
    assert {comparison.state, *(member.state for member in comparison.members)} == {"paused"}
    comparison.train()
    comparison.single_step()
    for _ in range(3):
        comparison.advance()
    assert steps_of(comparison) == [4, 4]
    assert {comparison.state, *(member.state for member in comparison.members)} == {"paused"}
    assert all(member.probe.step == 4 for member in comparison.members)


def test_a_step_is_complete_when_the_slowest_run_has_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = advance(side_by_side({0: {"aux_loss_coef": 0.1}}), 5)
    late = comparison.members[1]._computed
    lacks, delays = late._lacks, [False, False]  # like a new process, which first repeats the known steps
    monkeypatch.setattr(late, "_lacks", lambda step: delays.pop() if delays else lacks(step))
    comparison.single_step()
    assert comparison.wants_step
    for _ in range(5):
        comparison.advance()
    assert not delays
    assert steps_of(comparison) == [6, 6]
    assert not comparison.wants_step


def test_all_runs_share_budget_and_rate() -> None:
    comparison = side_by_side({})
    assert {comparison.budget, *(member.budget for member in comparison.members)} == {DEFAULT_BUDGET}
    for run in (comparison, *comparison.members):
        run.budget = 5
    advance(comparison, 9)
    assert steps_of(comparison) == [5, 5]
    assert {comparison.state, *(member.state for member in comparison.members)} == {"finished"}
    comparison.extend(3)
    advance(comparison, 9)
    assert steps_of(comparison) == [8, 8]
    comparison.set_rate(5.0)
    assert comparison.target_rate == 5.0
    with pytest.raises(ValueError, match="rate must be one of"):
        comparison.set_rate(61.0)


def test_a_knob_can_be_changed_in_one_run_or_in_all() -> None:
    comparison = advance(side_by_side({}), 6)
    comparison.update(1, aux_loss_coef=0.3)
    advance(comparison, 2)
    comparison.update(None, top_k=2)
    advance(comparison, 2)
    assert [member.history.events for member in comparison.members] == [
        (Event(8, {"top_k": 2}),),
        (Event(6, {"aux_loss_coef": 0.3}), Event(8, {"top_k": 2})),
    ]
    assert difference_in_words(comparison.plans).startswith(
        "A and B differ only in α. A: α = 0. B: α = 0, then 0.3 from step 6."
    )
    for member, plan in zip(comparison.members, comparison.plans, strict=True):
        assert same_numbers(member.history, alone(plan, 10).history)


def test_a_change_that_is_invalid_in_one_run_is_made_in_none() -> None:
    comparison = side_by_side({0: {"top_k": 1}}, top_k=2)
    with pytest.raises(ValidationError):
        comparison.update(None, renormalize=True)
    with pytest.raises(ValueError, match="num_experts is structural"):
        comparison.update(None, num_experts=6)
    assert [member.config for member in comparison.members] == [small_config(top_k=2), small_config(top_k=1)]
    assert not any(member.history.events for member in comparison.members)


def test_plans_include_planned_changes_and_changes_by_hand() -> None:
    comparison = side_by_side({7: {"aux_loss_coef": 0.1}})
    before = comparison.plans
    assert before[1].events == (Event(7, {"aux_loss_coef": 0.1}),)
    advance(comparison, 10)
    assert comparison.plans == before
    again = Comparison(comparison.plans)
    advance(again, 10)
    for one, same in zip(comparison.members, again.members, strict=True):
        assert same_numbers(one.history, same.history)


def test_a_comparison_catches_up_makes_the_change_planned_there_and_waits() -> None:
    base = RunPlan(small_config(), (Event(4, {"top_k": 2}),))
    plans = (base, base.changed([Event(10, {"aux_loss_coef": 0.1})]))
    comparison = Comparison(plans, rate=5.0, catch_up=10)
    comparison.touch()
    assert comparison.target_rate == math.inf
    while comparison.wants_step:
        comparison.advance()
    assert steps_of(comparison) == [10, 10]
    assert (comparison.state, comparison.target_rate) == ("paused", 5.0)
    assert comparison.members[1].config.aux_loss_coef == 0.1
    assert comparison.members[1].history.events[-1] == Event(10, {"aux_loss_coef": 0.1})
    assert comparison.members[0].config.aux_loss_coef == 0
    advance(comparison, 8)
    for member, plan in zip(comparison.members, plans, strict=True):
        assert same_numbers(member.history, alone(plan, 18).history)


def test_the_budget_leaves_room_to_train_after_a_long_catch_up() -> None:
    comparison = Comparison([RunPlan(small_config())] * 2, catch_up=5_000)
    assert {comparison.budget, *(member.budget for member in comparison.members)} == {5_400}


def test_all_runs_share_thresholds() -> None:
    comparison = side_by_side({}, {})
    comparison.thresholds = Thresholds(dead_share=0.3)
    assert (
        {member.thresholds for member in comparison.members} == {comparison.thresholds} == {Thresholds(dead_share=0.3)}
    )


@pytest.mark.parametrize("name", COMPARISONS)
def test_each_preset_comparison_trains_and_its_runs_differ(name: str) -> None:
    preset = COMPARISONS[name]
    plans = preset.plans(seed=3)
    assert 2 <= len(plans) <= 4
    assert all(one != other for one, other in combinations(plans, 2))
    assert plans[0] == RunPlan(RunConfig(seed=3, **preset.changes))
    comparison = advance(Comparison(plans), 12)
    assert steps_of(comparison) == [12] * len(plans)
    assert not any(member.diverged for member in comparison.members)
    assert preset.label
    assert preset.description.endswith(".")


def test_early_and_late_raise_alpha_at_their_steps() -> None:
    plans = COMPARISONS["early-and-late"].plans()
    assert [plan.course("aux_loss_coef") for plan in plans] == [
        ((0, 0.1),), ((0, 0), (100, 0.1)), ((0, 0), (400, 0.1)), ((0, 0),),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2, 7, 2_147_483_646])
def test_another_seed_gives_four_different_seeds(seed: int) -> None:
    seeds = [plan.config.seed for plan in COMPARISONS["another-seed"].plans(seed)]
    assert seeds[0] == seed
    assert len(set(seeds)) == 4
