"""Links, exported runs, tables and journals of earlier versions keep their meaning: in version 1 a plain start without
warm-up, up to version 2 one layer, up to version 3 softmax scores alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from moe_sim import RunConfig
from moe_sim.config.codec import from_query, to_query
from moe_sim.config.versions import ADDED_IN
from moe_sim.history.from_json import ADDED_COLUMNS, run_from_json
from moe_sim.history.to_json import run_to_json
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.store import Store
from moe_sim.sweep.table import frame_to_rows, rows_to_frame, table_bytes, table_from
from moe_sim.sweep.worker import run_cell
from moe_sim.trainer.trainer import Trainer
from tests.support.inspecting import small_config

AS_IT_WAS = {"1": {"router_init": "plain", "warmup_steps": 0}, "2": {}, "3": {}}
OLD = {version: small_config(seed=3, aux_loss_coef=0.03, **knobs) for version, knobs in AS_IT_WAS.items()}
"""A run of each version."""
ADDED = {
    version: [name for later, knobs in ADDED_IN.items() if later > int(version) for name in knobs] for version in OLD
}
"""The knobs that a version does not know."""
of_each_version = pytest.mark.parametrize("version", OLD)


def without(added: Sequence[str], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in added}


def test_the_defaults_of_today_begin_even_warm_up_and_have_one_layer() -> None:
    assert (RunConfig().router_init, RunConfig().warmup_steps, RunConfig().num_layers) == ("even", 200, 1)


@of_each_version
def test_a_link_of_an_earlier_version_opens_the_run_that_it_was(version: str) -> None:
    query = without(ADDED[version], to_query(OLD[version])) | {"v": version}
    assert from_query(query) == (OLD[version], [])
    assert from_query({"v": version}) == (RunConfig(**AS_IT_WAS[version]), [])


def test_a_link_without_a_version_has_the_defaults_of_today() -> None:
    assert from_query({"aux_loss_coef": "0.1"}) == (RunConfig(aux_loss_coef=0.1), [])


@of_each_version
def test_an_exported_run_of_an_earlier_version_opens_as_it_was(version: str) -> None:
    history = Trainer(OLD[version]).run(12)
    document = json.loads(run_to_json(history))
    assert document["version"] == 4
    document["version"] = int(version)
    document["configuration"] = without(ADDED[version], document["configuration"])
    document["history"] = without(ADDED_COLUMNS, document["history"])
    again, _ = run_from_json(json.dumps(document))
    assert again.initial_config == OLD[version]
    assert again.to_frame().equals(history.to_frame())


def test_an_exported_run_of_today_needs_every_knob() -> None:
    document = json.loads(run_to_json(Trainer(OLD["1"]).run(2)))
    del document["configuration"]["router_init"]
    with pytest.raises(ValueError, match="lacks the knob router_init"):
        run_from_json(json.dumps(document))


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
@of_each_version
def test_a_table_of_an_earlier_version_opens_with_its_runs_under_todays_names(version: str, ending: str) -> None:
    cells = [Cell(OLD[version], 10), Cell(OLD[version].replace(seed=4), 10)]
    frame = rows_to_frame([run_cell(cell) for cell in cells])
    old = frame.drop(columns=ADDED[version]).assign(run=["before", "before too"])
    content = old.to_csv(index=False).encode() if ending == ".csv" else old.to_parquet(index=False)
    again = table_from(content, ending)
    assert frame_to_rows(again) == frame_to_rows(frame)
    assert frame_to_rows(table_from(table_bytes(frame_to_rows(frame), ending), ending)) == frame_to_rows(frame)


@of_each_version
def test_a_sweep_that_an_earlier_version_left_unfinished_goes_on(version: str, tmp_path: Path) -> None:
    row = run_cell(Cell(OLD[version], 10))
    old = without(ADDED[version], row) | {"run": "before"}
    (tmp_path / "sweep.csv.partial").write_text(json.dumps(old) + "\n", encoding="utf-8")
    assert Store(tmp_path / "sweep.csv").row(Cell(OLD[version], 10)) == row
