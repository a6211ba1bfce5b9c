"""Every column has an entry, every entry is a column, and all who show a table's columns say what they mean."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

import moe_sim
from moe_sim import KNOBS, History, RunConfig, TraceHistory, Trainer, open_trace
from moe_sim.diagnosis.final_metrics import FinalMetrics
from moe_sim.history.column_meanings import COLUMN_MEANINGS, TABLES, described, meaning_of
from moe_sim.history.columns import OF_LAYERS, WORST, StepRecord, column_positions
from moe_sim.history.to_parquet import frame_to_parquet
from moe_sim.history.trace_format import Routed, TracedLayer, TraceHeader, TraceRecord
from moe_sim.history.trace_writer import TraceWriter
from moe_sim.sweep.measures import MEASURES
from moe_sim.sweep.table import DTYPES, table_bytes

LAYERS = (TracedLayer("a", 2, "logits"), TracedLayer("b", 2, "logits"))


@pytest.fixture
def full_trace(tmp_path: Path) -> TraceHistory:
    """A trace that has every column that a trace can have, and a learning rate."""
    header = TraceHeader(LAYERS, groups=("x", "y"))
    counts = np.array([3, 1, 2, 2])
    routed = Routed(
        np.array([4, 4]), counts, np.array([0.6, 0.4, 0.5, 0.5]), np.ones(2), np.ones(2), np.ones(2),
        np.stack([counts, counts]),
    )  # fmt: skip
    with TraceWriter(tmp_path, header) as writer:
        writer.write(TraceRecord(1, routed, routed, {"lr": 0.1}))
    return open_trace(tmp_path)


@pytest.fixture(scope="module")
def run() -> History:
    return Trainer(RunConfig(num_layers=2, num_experts=4)).run(3)


def test_a_run_has_an_entry_for_each_column_and_a_column_for_each_entry() -> None:
    live = [name for name, knob in KNOBS.items() if knob.live]
    named = [field.name for field in fields(StepRecord)]
    assert [*COLUMN_MEANINGS["run"]] == [*named, *live, "layer", "expert"]


def test_a_trace_has_an_entry_for_each_column_and_a_column_for_each_entry(full_trace: TraceHistory) -> None:
    assert full_trace.numbers == ("lr",)
    assert {*full_trace.columns} - {"lr"} == {*COLUMN_MEANINGS["trace"]} - {"layer", "expert"}


def test_a_sweep_has_an_entry_for_each_column_and_a_column_for_each_entry() -> None:
    assert {*COLUMN_MEANINGS["sweep"]} == {*DTYPES}
    assert {field.name for field in fields(FinalMetrics)} <= {*COLUMN_MEANINGS["sweep"]}


def test_every_column_of_every_frame_is_explained(run: History, full_trace: TraceHistory) -> None:
    for tidy in (False, True):
        assert all(meaning_of(name) for name in run.to_frame(tidy=tidy).columns)
        unknown = [name for name in full_trace.to_frame(tidy=tidy).columns if not meaning_of(name, "trace")]
        assert unknown == ([] if tidy else ["lr"])
    assert all(meaning_of(name) for name in column_positions(2, 4))


def test_how_the_layers_become_one_number_is_what_the_recorder_does(run: History) -> None:
    for name in OF_LAYERS:
        of_layers, whole = run.by_layer(name), run.column(name)
        mean, worst = of_layers.mean(1), of_layers.max(1)
        expected = {"mean of the layers": mean, "the worst layer": worst}[COLUMN_MEANINGS["run"][name].layers]
        np.testing.assert_allclose(whole, expected)
    assert COLUMN_MEANINGS["run"]["router_logit_max"].layers == "the worst layer"
    assert "dead_experts" in WORST


def test_the_columns_of_one_expert_and_of_one_layer_have_the_meaning_of_their_quantity() -> None:
    for name in ("load_3", "load_1_3"):
        assert meaning_of(name) == COLUMN_MEANINGS["run"]["load"]
    for name in ("balance_loss_1", "balance_loss_by_layer"):
        about = meaning_of(name)
        assert about is not None
        assert about.meaning == COLUMN_MEANINGS["run"]["balance_loss"].meaning
        assert (about.layers, COLUMN_MEANINGS["run"]["balance_loss"].layers) == ("each layer", "mean of the layers")
    assert meaning_of("laod_3") is None
    assert meaning_of("lr", "trace") is None


def test_entries_are_complete() -> None:
    for table, columns in COLUMN_MEANINGS.items():
        for name, column in columns.items():
            assert column.meaning, (table, name)
            assert not column.meaning.endswith("."), (table, name)
    # Units that the code shows elsewhere.
    assert COLUMN_MEANINGS["run"]["task_loss"].unit == COLUMN_MEANINGS["run"]["eval_task_loss"].unit == "nats"
    assert "20 steps" in COLUMN_MEANINGS["run"]["smoothed_load"].over
    assert "10th step" in COLUMN_MEANINGS["run"]["eval_load"].over


def test_the_sweep_page_says_the_same_of_its_measures_as_the_table() -> None:
    for name, measure in MEASURES.items():
        if name != "first_dead_step":
            assert measure.note == COLUMN_MEANINGS["sweep"][name].over, name


def test_help_shows_the_columns() -> None:
    for name in COLUMN_MEANINGS["run"]:
        assert f"    {name}\n" in (History.__doc__ or "")
    document = moe_sim.history.column_meanings.__doc__ or ""
    assert described() in document
    assert all(about in document for about in TABLES.values())


def test_parquet_fields_say_what_they_mean_and_pandas_reads_the_same_table(run: History) -> None:
    import pandas as pd

    frame = run.to_frame().astype({"swap_columns": "str"})
    content = frame_to_parquet(frame, "run")
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(content)), frame)
    schema = parquet.read_schema(io.BytesIO(content))
    about = schema.field("load_1_3").metadata
    assert about[b"meaning"] == b"Pairs that choose the expert, before capacity"
    assert about[b"unit"] == b"share of the (token, choice) pairs"
    assert (about[b"over"], about[b"layers"]) == (b"each step", b"each layer")
    assert b"unit" not in schema.field("step").metadata


def test_a_number_that_nobody_knows_has_no_metadata(full_trace: TraceHistory) -> None:
    schema = parquet.read_schema(io.BytesIO(frame_to_parquet(full_trace.to_frame(), "trace")))
    assert b"meaning" in schema.field("load_0_1").metadata
    assert b"meaning" not in (schema.field("lr").metadata or {})


def test_the_table_of_a_sweep_says_what_its_columns_mean() -> None:
    schema = parquet.read_schema(io.BytesIO(table_bytes([], ".parquet")))
    assert schema.field("task_loss").metadata[b"over"] == b"mean of the last 50 steps"
    assert all(b"meaning" in schema.field(name).metadata for name in DTYPES)
