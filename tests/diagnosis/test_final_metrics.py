"""The final metrics of a run, by their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, fields

import numpy as np
import pytest

from moe_sim import KNOBS, History, RunConfig, Trainer
from moe_sim.config.events import Event
from moe_sim.diagnosis.final_metrics import FinalMetrics, final_metrics
from tests.support.records import append

CONFIG = RunConfig(num_experts=4)
EVEN, ONE_DEAD = [0.25] * 4, [0.4, 0.4, 0.19, 0.01]


@pytest.fixture
def history(make_record: Callable[..., object]) -> History:
    """80 steps: task loss 1, 2, … 80; one expert is dead from step 31 on; an evaluation every 10 steps."""
    history = History(CONFIG)
    for step in range(1, 81):
        evaluation = {} if step % 10 else {"eval_task_loss": float(step), "eval_load": np.array([step, 0, 0, 0]) / 100}
        load = EVEN if step <= 30 else ONE_DEAD
        append(history, make_record(step, load, task_loss=float(step), specialization=step / 100, **evaluation))  # type: ignore[arg-type]
    return history


def test_losses_are_means_of_the_last_fifty_steps(history: History) -> None:
    assert final_metrics(history, diverged=False).task_loss == pytest.approx(np.mean(range(31, 81)))


def test_a_run_shorter_than_fifty_steps_is_averaged_over_all_of_them(make_history: Callable[..., History]) -> None:
    assert final_metrics(make_history(CONFIG, EVEN, 7, balance_loss=1.5), diverged=False).balance_loss == 1.5


def test_loads_and_specialization_are_those_of_the_last_step(history: History) -> None:
    final = final_metrics(history, diverged=False)
    assert final.max_load == 0.4
    assert final.imbalance_ratio == pytest.approx(40)
    assert final.dead_experts == 1
    assert final.specialization == 0.8


def test_an_expert_that_got_nothing_makes_the_ratio_infinite(make_history: Callable[..., History]) -> None:
    assert final_metrics(make_history(CONFIG, [0.5, 0.5, 0.0, 0.0], 3), diverged=False).imbalance_ratio == math.inf


def test_the_task_loss_in_inference_is_averaged_and_its_load_is_the_newest(history: History) -> None:
    final = final_metrics(history, diverged=False)
    assert final.eval_task_loss == pytest.approx(np.mean([40, 50, 60, 70, 80]))
    assert final.eval_max_load == 0.8


def test_between_two_evaluations_the_last_one_counts(make_history: Callable[..., History]) -> None:
    assert final_metrics(make_history(CONFIG, ONE_DEAD, 19), diverged=False).eval_max_load == 0.4


def test_the_first_dead_step_is_the_first_with_a_dead_expert(history: History) -> None:
    assert final_metrics(history, diverged=False).first_dead_step == 31


def test_no_step_before_the_twentieth_counts_as_dead(make_history: Callable[..., History]) -> None:
    assert final_metrics(make_history(CONFIG, ONE_DEAD, 19), diverged=False).first_dead_step is None
    assert final_metrics(make_history(CONFIG, ONE_DEAD, 20), diverged=False).first_dead_step == 20
    assert final_metrics(make_history(CONFIG, EVEN, 60), diverged=False).first_dead_step is None


def test_a_run_without_steps_has_no_numbers() -> None:
    final = asdict(final_metrics(History(CONFIG), diverged=True))
    assert (final.pop("steps_done"), final.pop("diverged")) == (0, True)
    assert all(value is None or math.isnan(value) for value in final.values())


def test_a_diverged_run_keeps_the_numbers_from_before() -> None:
    trainer = Trainer(RunConfig(learning_rate=1000, batch_tokens=32))
    final = final_metrics(trainer.run(500), diverged=trainer.diverged)
    assert final.diverged
    assert 0 < final.steps_done < 500
    assert math.isfinite(final.max_load)


def test_a_run_with_changed_knobs_has_final_metrics(history: History) -> None:
    history.record_event(Event(40, {"top_k": 2}))
    assert final_metrics(history, diverged=False).steps_done == 80


def test_every_value_is_a_plain_number_and_no_name_is_also_a_knob(history: History) -> None:
    assert {type(value) for value in asdict(final_metrics(history, diverged=False)).values()} <= {int, float, bool}
    assert not {field.name for field in fields(FinalMetrics)} & {*KNOBS, "run", "steps", "status", "error"}
