"""One run in a worker: its row, the stop flag, and failures."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from moe_sim import KNOBS, RunConfig, Trainer
from moe_sim.diagnosis.final_metrics import FinalMetrics, final_metrics
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_json import run_to_json
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.worker import HISTORY, run_cell, run_cells
from tests.support.sweeping import ENDLESS_STEPS, SMALL, plain

CELL = Cell(SMALL, 30)


class Clock:
    """A clock that advances by `pace` seconds whenever it is read."""

    def __init__(self, pace: float) -> None:
        self.now, self.pace = 0.0, pace

    def monotonic(self) -> float:
        self.now += self.pace
        return self.now


def test_a_row_has_the_configuration_the_final_metrics_and_the_status() -> None:
    row = run_cell(CELL)
    assert list(row) == ["run", *KNOBS, "steps", *(field.name for field in fields(FinalMetrics)), "status", "error"]
    assert {name: row[name] for name in KNOBS} == SMALL.model_dump()
    expected = final_metrics(Trainer(SMALL).run(30), diverged=False)
    assert {name: row[name] for name in ("task_loss", "max_load", "steps_done")} == {
        "task_loss": expected.task_loss, "max_load": expected.max_load, "steps_done": 30,
    }  # fmt: skip
    assert (row["steps"], row["status"], row["error"]) == (30, "done", None)


def test_the_same_run_gives_the_same_row() -> None:
    assert plain([run_cell(CELL)]) == plain([run_cell(CELL)])


def test_a_run_that_diverges_is_reported_as_such() -> None:
    row = run_cell(Cell(SMALL.replace(learning_rate=1000), 500))
    assert (row["status"], row["diverged"], row["error"]) == ("diverged", True, None)
    assert row["steps_done"] < 500


def test_the_history_is_included_on_request_and_opens_again() -> None:
    assert HISTORY not in run_cell(CELL)
    row = run_cell(CELL, with_history=True)
    trainer = Trainer(SMALL)
    assert row[HISTORY] == run_to_json(trainer.run(30), trainer.probe())
    history, probe = run_from_json(row[HISTORY])
    assert history.initial_config == SMALL
    assert probe is not None


def test_an_exception_in_a_run_becomes_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(config: RunConfig) -> Trainer:
        raise MemoryError("no room\nfor 10 TB")

    monkeypatch.setattr("moe_sim.sweep.worker.Trainer", burst)
    row = run_cell(CELL)
    assert (row["status"], row["error"]) == ("failed", "MemoryError: no room for 10 TB")
    assert row["seed"] == SMALL.seed
    assert row["dead_experts"] is None


def test_a_run_stops_soon_after_the_flag_is_set_and_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_sim.sweep.worker.time", Clock(0.1))
    checks: list[bool] = []

    def third_time() -> bool:
        checks.append(len(checks) == 2)
        return checks[-1]

    row = run_cell(Cell(SMALL, ENDLESS_STEPS), third_time)
    assert row["status"] == "stopped"
    assert row["steps_done"] < 100
    assert checks == [False, False, True]


def test_the_flag_is_checked_by_the_clock_and_not_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_sim.sweep.worker.time", Clock(0.0))
    checks: list[None] = []
    run_cell(CELL, lambda: bool(checks.append(None)))
    assert len(checks) == 1


def test_a_run_uses_one_thread_and_restores_the_callers_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = []

    class Looking(Trainer):
        def __init__(self, config: RunConfig) -> None:
            inside.append(torch.get_num_threads())
            super().__init__(config)

    monkeypatch.setattr("moe_sim.sweep.worker.Trainer", Looking)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_cell(CELL)
        assert (inside, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_runs_in_a_bundle_have_the_rows_that_they_have_alone() -> None:
    cells = [Cell(SMALL.replace(seed=seed, aux_loss_coef=alpha), 25) for seed in range(2) for alpha in (0.0, 0.1, 1.0)]
    cells.append(Cell(SMALL.replace(learning_rate=1000), 25))
    assert plain(run_cells(cells, with_history=True)) == plain(run_cell(cell, with_history=True) for cell in cells)


def test_an_exception_in_a_bundle_fails_only_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(config: RunConfig) -> Trainer:
        if config.seed == 1:
            raise MemoryError("no room")
        return Trainer(config)

    monkeypatch.setattr("moe_sim.sweep.worker.Trainer", burst)
    rows = run_cells([Cell(SMALL.replace(seed=seed), 5) for seed in range(3)])
    assert [(row["seed"], row["status"]) for row in rows] == [(0, "done"), (1, "failed"), (2, "done")]


def test_a_row_holds_plain_values_only() -> None:
    assert {type(value) for value in run_cell(CELL).values()} <= {int, float, bool, str, type(None)}
