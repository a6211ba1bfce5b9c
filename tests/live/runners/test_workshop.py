"""Turns of several runs at once: each has the numbers, the probes and the snapshots that it has alone."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_sim import Event, RunConfig
from moe_sim.live.runners.runner import Progress
from moe_sim.live.runners.workshop import LocalRunner, Turn, Workshop, take_turns
from moe_sim.trainer.network import Network
from moe_sim.trainer.together import Together
from tests.support.inspecting import small_config

LONG = 100.0
"""Seconds that no turn of a test lasts."""
PLANS: tuple[tuple[Event, ...], ...] = (
    (),
    (Event(0, {"aux_loss_coef": 0.3}), Event(12, {"top_k": 2})),
    (Event(7, {"balancing": "bias"}), Event(8, {"swap_weights": "1-2"})),
    (Event(5, {"renormalize": True}),),  # is invalid with k = 1, and skipped
)


def some_runners() -> list[LocalRunner]:
    """Two for each plan, and one of another shape."""
    runners = [LocalRunner(small_config(seed=seed), plan) for plan in PLANS for seed in (0, 1)]
    return [*runners, LocalRunner(small_config(num_experts=3))]


def done(result: Progress | Exception) -> Progress:
    assert isinstance(result, Progress)
    return result


def assert_equal(one: Progress, other: Progress) -> None:
    assert (one.steps_done, one.diverged, one.events) == (other.steps_done, other.diverged, other.events)
    np.testing.assert_array_equal(one.rows, other.rows)
    assert [probe.step for probe in one.probes] == [probe.step for probe in other.probes]
    for probe, twin in zip(one.probes, other.probes, strict=True):
        for name, value in vars(probe).items():
            np.testing.assert_array_equal(value, getattr(twin, name), err_msg=name)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_turns_together_give_what_each_run_does_alone(data: st.DataObject) -> None:
    alone, together = some_runners(), some_runners()
    for _ in range(3):
        chosen = data.draw(st.lists(st.sampled_from(range(len(alone))), unique=True, min_size=1))
        steps = [data.draw(st.integers(1, 25)) for _ in chosen]
        expected = [alone[one].advance(count, LONG, keep=False) for one, count in zip(chosen, steps, strict=True)]
        turns = [Turn(together[one], count, LONG, keep=False) for one, count in zip(chosen, steps, strict=True)]
        for result, other in zip(take_turns(turns), expected, strict=True):
            assert_equal(done(result), other)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), kept=st.integers(1, 3))
def test_runs_that_stay_stacked_can_be_looked_at_changed_and_copied_at_any_time(data: st.DataObject, kept: int) -> None:
    alone, together, workshop = some_runners(), some_runners(), Workshop(kept)
    for _ in range(5):
        chosen = data.draw(st.lists(st.sampled_from(range(len(alone))), unique=True, min_size=1))
        turns = [Turn(together[one], 4, LONG, keep=False) for one in chosen]
        for one, result in zip(chosen, workshop.take_turns(turns), strict=True):
            assert_equal(done(result), alone[one].advance(4, LONG, keep=False))
        companies = {one.company for one in together} - {None}
        assert len(companies) <= kept
        one = data.draw(st.sampled_from(chosen))
        match data.draw(st.sampled_from(("nothing", "look", "update", "copy"))):
            case "look":
                assert_equal(together[one].look(), alone[one].look())
            case "update":
                rate = {"learning_rate": data.draw(st.sampled_from((0.001, 0.01)))}
                assert_equal(together[one].update(rate, ()), alone[one].update(rate, ()))
            case "copy":
                step = alone[one].steps_done
                together[one], alone[one] = together[one].copy(step, ()), alone[one].copy(step, ())


def test_runs_of_one_company_are_stacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stacked: list[int] = []
    stack = Network.stack.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Network], networks: list[Network]) -> Network:
        stacked.append(len(networks))
        return stack(cls, networks)

    monkeypatch.setattr(Network, "stack", classmethod(counted))
    workshop, runners = Workshop(1), [LocalRunner(small_config(seed=seed)) for seed in range(3)]
    for order in (1, -1, 1):
        workshop.take_turns([Turn(one, 2, LONG, keep=False) for one in runners[::order]])
    assert stacked == [3]
    workshop.take_turns([Turn(one, 2, LONG, keep=False) for one in runners[:2]])
    assert stacked == [3, 2]


def test_a_run_that_has_not_trained_keeps_no_trainer_and_begins_as_it_would_have() -> None:
    plan = (Event(0, {"aux_loss_coef": 0.3}), Event(4, {"learning_rate": 0.01}))
    looked_at, other = LocalRunner(small_config(), plan), LocalRunner(small_config(), plan)
    trainer = weakref.ref(looked_at.trainer)
    assert_equal(looked_at.look(), looked_at.look())
    gc.collect()
    assert trainer() is None
    assert (looked_at.steps_done, looked_at.config, looked_at.diverged) == (0, small_config(), False)
    assert_equal(looked_at.advance(9, LONG, keep=False), other.advance(9, LONG, keep=False))


def test_a_change_before_the_first_step_is_kept() -> None:
    changed = LocalRunner(small_config())
    changed.look()
    changed.update({"aux_loss_coef": 0.5}, ())
    changed.look()
    first = changed.advance(5, LONG, keep=False)
    other = LocalRunner(small_config(aux_loss_coef=0.5)).advance(5, LONG, keep=False)
    np.testing.assert_array_equal(first.rows, other.rows)


def test_probes_come_at_the_same_steps_and_snapshots_continue_as_they_would_alone() -> None:
    runners = [LocalRunner(small_config(seed=seed)) for seed in range(3)]
    first = [done(result) for result in take_turns([Turn(one, 105, LONG, keep=True) for one in runners])]
    steps = [*range(1, 31), *range(40, 101, 10)]
    assert [[probe.step for probe in progress.probes] for progress in first] == [steps] * 3
    twins = [one.copy(101, ()) for one in runners]
    assert [twin.steps_done for twin in twins] == [100] * 3
    for twin, progress in zip(twins, first, strict=True):
        np.testing.assert_array_equal(twin.advance(5, LONG, keep=False).rows, progress.rows[100:])


def test_a_run_that_fails_ends_alone_and_says_so_in_its_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Together._compute

    def faulty(self: Together) -> Any:
        if any(trainer.config.seed == 1 and trainer.steps_done == 5 for trainer in self.trainers):
            raise MemoryError("no room")
        return compute(self)

    monkeypatch.setattr(Together, "_compute", faulty)
    runners = [LocalRunner(small_config(seed=seed)) for seed in range(3)]
    results = [done(result) for result in take_turns([Turn(one, 10, LONG, keep=False) for one in runners])]
    assert [len(result.rows) for result in results] == [10, 5, 10]
    np.testing.assert_array_equal(results[2].rows, LocalRunner(small_config(seed=2)).advance(10, LONG, keep=False).rows)
    again = take_turns([Turn(one, 1, LONG, keep=False) for one in runners])
    assert [isinstance(result, MemoryError) for result in again] == [False, True, False]


def test_a_turn_ends_when_its_time_is_over_but_takes_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            now[0] += 0.01
            return now[0]

    monkeypatch.setattr("moe_sim.live.runners.workshop.time", Clock)
    runners = [LocalRunner(config) for config in (small_config(), small_config(seed=1), small_config(num_experts=3))]
    # Two of one shape have twice the time. Each look at the clock takes 0.01 s.
    for seconds, least, most in ((0.2, 2, 40), (0.05, 1, 10)):
        results = [done(result) for result in take_turns([Turn(one, 1_000, seconds, keep=False) for one in runners])]
        assert all(least <= len(result.rows) <= most for result in results), [len(result.rows) for result in results]


def test_a_diverged_run_takes_no_turn() -> None:
    config = RunConfig(learning_rate=1000, warmup_steps=0)
    wild, sound = LocalRunner(config), LocalRunner(config.replace(learning_rate=0.003))
    results = [done(result) for result in take_turns([Turn(one, 40, LONG, keep=False) for one in (wild, sound)])]
    assert [result.diverged for result in results] == [True, False]
    assert len(results[0].rows) < len(results[1].rows) == 40
    [after] = take_turns([Turn(wild, 1, LONG, keep=False)])
    assert len(done(after).rows) == 0
