"""Equal runs are computed once, yet each viewer gets the numbers of an independent run."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_sim import Event, History, RunConfig, Trainer
from moe_sim.config.presets import PRESETS
from moe_sim.live.computed_run import ComputedRun, reach_together
from moe_sim.live.live_run import LiveRun
from moe_sim.live.runners.workshop import LocalRunner
from moe_sim.live.shared_runs import SharedRuns
from moe_sim.trainer.together import Together
from tests.support.inspecting import small_config

PLAN = (Event(12, {"aux_loss_coef": 0.2}), Event(30, {"top_k": 2}))


@pytest.fixture
def steps_computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each step of any trainer."""
    done, step = [], Together.step

    def counted(runs: Together) -> bool:
        done.extend(trainer.steps_done for trainer in runs.trainers)
        return step(runs)

    monkeypatch.setattr(Together, "step", counted)
    return done


@pytest.fixture
def shared() -> SharedRuns:
    """The runs that the viewers of a test share."""
    return SharedRuns()


def alone(config: RunConfig, changes: dict[int, dict[str, Any]], steps: int) -> History:
    """The history of a lone trainer, with knobs changed by step."""
    trainer = Trainer(config)
    for step in range(steps):
        trainer.update(**changes.get(step, {}))
        trainer.step()
    return trainer.history


def assert_same_numbers(one: History, other: History) -> None:
    assert len(one) == len(other)
    assert one.to_frame().equals(other.to_frame())


def test_many_viewers_of_a_run_cost_as_little_as_one(steps_computed: list[int], shared: SharedRuns) -> None:
    runs = [LiveRun(small_config(), PLAN, runs=shared) for _ in range(10)]
    for run in runs:
        run.advance_by(40)
    assert len(steps_computed) == 40
    expected = alone(small_config(), {event.step: event.changes for event in PLAN}, 40)
    for run in runs:
        assert_same_numbers(run.history, expected)


def test_each_viewer_starts_at_step_0_and_has_its_own_pace(shared: SharedRuns) -> None:
    first, second = LiveRun(small_config(), PLAN, runs=shared), LiveRun(small_config(), PLAN, runs=shared)
    first.advance_by(35)
    assert (second.state, second.steps_done, len(second.history), second.history.events) == ("ready", 0, 0, ())
    second.advance_by(20)
    assert (first.steps_done, second.steps_done) == (35, 20)
    assert second.config.aux_loss_coef == 0.2
    assert second.config.top_k == 1
    assert first.config.top_k == 2
    assert [event.step for event in second.history.events] == [12]
    assert second.history.to_frame().equals(first.history.to_frame()[:20])


def test_different_runs_share_nothing(shared: SharedRuns) -> None:
    configs = [small_config(), small_config(seed=1), small_config(aux_loss_coef=0.1)]
    runs = [LiveRun(config, plan, runs=shared) for config in configs for plan in ((), PLAN)]
    assert len({id(run._computed) for run in runs}) == 6


def test_a_run_stays_shared_if_a_newcomer_follows_it_before_the_change(shared: SharedRuns) -> None:
    first, newcomer = LiveRun(small_config(), runs=shared), LiveRun(small_config(seed=1), runs=shared)
    computed = shared.follow(small_config(), (), newcomer)
    first.update(aux_loss_coef=0.3)
    assert computed.is_shared
    assert computed.history.events == ()


@pytest.mark.parametrize("own_step", [0, 7, 13, 25, 40])
def test_the_first_change_by_hand_branches_off(own_step: int, shared: SharedRuns) -> None:
    run, other = LiveRun(small_config(), PLAN, runs=shared), LiveRun(small_config(), PLAN, runs=shared)
    other.advance_by(40)
    run.advance_by(own_step)
    run.update(z_loss_coef=0.5)
    run.advance_by(50 - own_step)
    other.advance_by(10)
    changes = {event.step: dict(event.changes) for event in PLAN}
    assert_same_numbers(other.history, alone(small_config(), changes, 50))
    changes.setdefault(own_step, {})["z_loss_coef"] = 0.5
    assert_same_numbers(run.history, alone(small_config(), changes, 50))
    assert run.history.events != other.history.events


def test_a_lone_viewer_keeps_the_computation_after_a_change(steps_computed: list[int], shared: SharedRuns) -> None:
    run = LiveRun(small_config(), runs=shared)
    run.advance_by(30)
    run.update(aux_loss_coef=0.1)
    run.advance_by(10)
    assert len(steps_computed) == 40
    newcomer = LiveRun(small_config(), runs=shared)
    newcomer.advance_by(5)
    assert newcomer.config.aux_loss_coef == 0


def test_a_branch_from_a_snapshot_repeats_few_steps(steps_computed: list[int], shared: SharedRuns) -> None:
    leader, run = LiveRun(small_config(), runs=shared), LiveRun(small_config(), runs=shared)
    leader.advance_by(350)
    run.advance_by(210)
    run.update(aux_loss_coef=0.1)
    run.advance_by(1)
    assert len(steps_computed) == 350 + (210 - 200) + 1
    assert run.history.to_frame()[:210].equals(leader.history.to_frame()[:210])
    assert_same_numbers(run.history, alone(small_config(), {210: {"aux_loss_coef": 0.1}}, 211))


@settings(max_examples=12)
@given(data=st.data())
def test_whatever_viewers_do_each_sees_the_run_of_a_lone_trainer(data: st.DataObject) -> None:
    plan = PRESETS["too-late"].plan if data.draw(st.booleans()) else PLAN
    shared = SharedRuns()
    runs = [LiveRun(small_config(seed=9), plan, runs=shared) for _ in range(3)]
    for _ in range(data.draw(st.integers(2, 8))):
        run = data.draw(st.sampled_from(runs))
        if data.draw(st.booleans()):
            run.advance_by(data.draw(st.integers(1, 15)))
        else:
            knob, values = data.draw(st.sampled_from([("aux_loss_coef", [0.0, 0.3]), ("capacity_factor", [1.0, None])]))
            run.update(**{knob: data.draw(st.sampled_from(values))})
    for run in runs:
        changes: dict[int, dict[str, Any]] = {}
        for event in run.history.events:
            changes.setdefault(event.step, {}).update(event.changes)
        assert_same_numbers(run.history, alone(small_config(seed=9), changes, run.steps_done))


def test_the_routing_map_belongs_to_the_viewers_own_step(shared: SharedRuns) -> None:
    first, second = LiveRun(RunConfig(), runs=shared), LiveRun(RunConfig(), runs=shared)
    first.advance_by(60)
    second.advance_by(40)
    trainer = Trainer(RunConfig())
    trainer.run(40)
    expected = trainer.probe()
    assert second.probe.step == 40
    np.testing.assert_array_equal(second.probe.expert, expected.expert)
    np.testing.assert_array_equal(second.probe.joint, expected.joint)
    assert first.probe.step == 60


def test_each_of_the_first_steps_has_a_routing_map_even_behind_others(shared: SharedRuns) -> None:
    LiveRun(small_config(), runs=shared)  # gone at once
    ahead, run = LiveRun(small_config(), runs=shared), LiveRun(small_config(), runs=shared)
    ahead.advance_by(100)
    for step in range(1, 31):
        run.advance_by(1)
        assert run.probe.step == step


def test_a_follower_diverges_where_the_leader_did_and_not_before(shared: SharedRuns) -> None:
    config = RunConfig(learning_rate=1000, num_experts=4)
    first, second = LiveRun(config, runs=shared), LiveRun(config, runs=shared)
    first.advance_by(60)
    assert first.state == "diverged"
    assert second.state == "ready"
    second.advance_by(60)
    assert second.state == "diverged"
    assert_same_numbers(first.history, second.history)


def test_a_run_without_followers_is_released(shared: SharedRuns) -> None:
    runs = [LiveRun(small_config(), runs=shared) for _ in range(2)]
    assert runs[0]._computed is runs[1]._computed
    runs[0].advance_by(5)
    runs.clear()
    fresh = LiveRun(small_config(), runs=shared)
    assert fresh.history.events == ()
    assert len(fresh._computed.history) == 0


def test_a_copied_runner_continues_with_the_same_numbers() -> None:
    computation = LocalRunner(small_config(router_noise="gaussian", balancing="bias"), PLAN)
    computation.advance(20, 100, keep=False)
    twin = computation.copy(20, PLAN)
    for one, other in itertools.pairwise(each.advance(25, 100, keep=False) for each in (computation, twin)):
        assert one.rows.tobytes() == other.rows.tobytes()
        assert one.events == other.events


def test_snapshots_have_a_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    computation = LocalRunner(small_config())
    size = 3 * sum(p.numel() * p.element_size() for p in computation.trainer.network.parameters())
    monkeypatch.setattr("moe_sim.live.runners.computation.SNAPSHOT_BYTES", 2 * size)
    computation.advance(400, 100, keep=True)
    assert sorted(computation._snapshots) == [100, 200]


def test_the_rows_of_a_history_reproduce_it() -> None:
    trainer = Trainer(small_config())
    trainer.run(300)
    again = History(small_config())
    for start, stop in ((0, 100), (100, 101), (101, 300)):
        again.extend(trainer.history.until(stop).rows(start))
    assert_same_numbers(again, trainer.history)


def test_a_recorded_run_computes_nothing() -> None:
    trainer = Trainer(small_config())
    trainer.run(10)
    recorded = ComputedRun.recorded(trainer.history, None)
    assert reach_together([(recorded, 50)], 1.0) == [10]
    assert recorded.is_recorded
    assert recorded.probe(10).step == 0
