"""Links, exported runs, tables and journals of version 1 keep their meaning: a plain start without warm-up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_sim import RunConfig
from moe_sim.config.codec import from_query, to_query
from moe_sim.config.versions import ADDED
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_json import run_to_json
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.store import Store
from moe_sim.sweep.table import frame_to_rows, rows_to_frame, table_bytes, table_from
from moe_sim.sweep.worker import run_cell
from moe_sim.trainer.trainer import Trainer
from tests.support.inspecting import small_config

AS_IT_WAS = {"router_init": "plain", "warmup_steps": 0}
OLD = small_config(seed=3, aux_loss_coef=0.03, **AS_IT_WAS)


def of_version_1(query: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in query.items() if name not in ADDED} | {"v": "1"}


def test_the_defaults_of_today_begin_even_and_warm_up() -> None:
    assert (RunConfig().router_init, RunConfig().warmup_steps) == ("even", 200)


def test_a_link_of_version_1_opens_the_run_that_it_was() -> None:
    assert from_query(of_version_1(to_query(OLD))) == (OLD, [])
    assert from_query({"v": "1"}) == (RunConfig(**AS_IT_WAS), [])


def test_a_link_without_a_version_has_the_defaults_of_today() -> None:
    assert from_query({"aux_loss_coef": "0.1"}) == (RunConfig(aux_loss_coef=0.1), [])


def test_an_exported_run_of_version_1_opens_as_it_was() -> None:
    history = Trainer(OLD).run(12)
    document = json.loads(run_to_json(history))
    assert document["version"] == 2
    document["version"] = 1
    for name in ADDED:
        del document["configuration"][name]
    again, _ = run_from_json(json.dumps(document))
    assert again.initial_config == OLD
    assert again.to_frame().equals(history.to_frame())


def test_an_exported_run_of_today_needs_every_knob() -> None:
    document = json.loads(run_to_json(Trainer(OLD).run(2)))
    del document["configuration"]["router_init"]
    with pytest.raises(ValueError, match="lacks the knob router_init"):
        run_from_json(json.dumps(document))


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_a_table_of_version_1_opens_with_its_runs_under_todays_names(ending: str) -> None:
    cells = [Cell(OLD, 10), Cell(OLD.replace(seed=4), 10)]
    frame = rows_to_frame([run_cell(cell) for cell in cells])
    old = frame.drop(columns=list(ADDED)).assign(run=["before", "before too"])
    content = old.to_csv(index=False).encode() if ending == ".csv" else old.to_parquet(index=False)
    again = table_from(content, ending)
    assert frame_to_rows(again) == frame_to_rows(frame)
    assert frame_to_rows(table_from(table_bytes(frame_to_rows(frame), ending), ending)) == frame_to_rows(frame)


def test_a_sweep_that_version_1_left_unfinished_goes_on(tmp_path: Path) -> None:
    row = run_cell(Cell(OLD, 10))
    old = {name: value for name, value in row.items() if name not in ADDED} | {"run": "before"}
    (tmp_path / "sweep.csv.partial").write_text(json.dumps(old) + "\n", encoding="utf-8")
    assert Store(tmp_path / "sweep.csv").row(Cell(OLD, 10)) == row
