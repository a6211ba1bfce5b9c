"""Every uploaded table gives a table or one sentence, quickly, in little memory, and the server survives."""

from __future__ import annotations

import io
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_sim.charts.sweep import pareto, u_curve
from moe_sim.charts.sweep_maps import parallel_coordinates, phase_diagram
from moe_sim.config.errors import InvalidInput
from moe_sim.sweep import untrusted_files
from moe_sim.sweep.measures import MEASURES, axes_of
from moe_sim.sweep.table import DTYPES, frame_to_rows, table_bytes, table_from
from moe_sim.sweep.untrusted_files import NotASweepError, columns_of_csv, columns_of_parquet
from pages.sweeps.upload import LARGEST_UPLOAD, LONGEST_NAME, opened_table
from tests.support.hostile import assert_sentence, spoiled
from tests.support.sweep_rows import table

TIMEOUT = 20.0
"""Time limit in seconds for the worst file, on a loaded machine."""
LARGEST_MEMORY = 400_000_000
"""Peak of Python's memory in bytes for the worst file: ten times its size."""
NAMES, TEXTS = tuple(DTYPES), tuple(name for name, dtype in DTYPES.items() if dtype == "str")


FRAME = table({"aux_loss_coef": (0.0, 0.1), "num_experts": (4, 8)})
PARQUET, CSV = (table_bytes(frame_to_rows(FRAME), ending) for ending in (".parquet", ".csv"))


def table_or_sentence(name: str, content: bytes) -> bool:
    """Whether the bytes were accepted as a table."""
    try:
        frame = opened_table(name, content)
    except InvalidInput as error:
        assert_sentence(str(error))
        return False
    assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == DTYPES
    return True


def test_a_thousand_corrupted_tables_give_a_table_or_a_sentence() -> None:
    random = np.random.default_rng(2)
    accepted = sum(table_or_sentence("a.csv", spoiled(CSV, random)) for _ in range(1_000))
    assert 0 < accepted < 700


def parquet(content: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(content, buffer, **options)
    return buffer.getvalue()


def with_errors(texts: pa.Array) -> pa.Table:
    """A valid table with these texts in its column `error`."""
    content = pa.Table.from_pandas(pd.concat([FRAME] * (len(texts) // len(FRAME) + 1))[: len(texts)])
    return content.set_column(content.schema.get_field_index("error"), "error", texts)


def nested(depth: int) -> pa.Table:
    kind: pa.DataType = pa.int8()
    for _ in range(depth):
        kind = pa.struct([("a", kind)])
    return pa.table({"a": pa.nulls(1, kind)})


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a kilobyte that would be thirty megabytes": (
        lambda: parquet(with_errors(pa.array(["x" * 30_000_000])), compression="zstd"), "another compression"
    ),
    "one long word in all rows": (
        lambda: parquet(with_errors(pa.array(["x" * 10**5] * 1_000)), store_schema=False),
        "texts that are too long",
    ),
    "twenty thousand columns": (lambda: parquet(pa.table({f"c{i}": [1] for i in range(20_000)})), "does not end like"),
    "two thousand columns": (lambda: parquet(pa.table({f"c{i}": [1] for i in range(2_000)})), "not a readable"),
    "two thousand row groups": (lambda: parquet(pa.table({"a": [1] * 2_000}), row_group_size=1), "not a readable"),
    "sixty levels": (lambda: parquet(nested(60)), "no column run"),
    "a million rows of nothing": (lambda: parquet(pa.table({"a": pa.nulls(1_000_000)})), "more than 20,000 rows"),
    "a list in each cell": (lambda: parquet(with_errors(pa.array([["x"]]))), "no column error"),
    "a column twice": (
        lambda: parquet(pa.table([*with_errors(pa.array(["x"])).columns, pa.array([1])], names=[*NAMES, "run"])),
        "duplicate column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_rejected_before_it_is_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, reason = BOMBS[name]
    content, before = make(), pa.total_allocated_bytes()
    if reason != "texts that are too long":
        monkeypatch.setattr(pq.ParquetFile, "read", lambda *args, **options: pytest.fail("unpacked"))
    with pytest.raises(NotASweepError, match=reason):
        columns_of_parquet(content, NAMES, (), TEXTS, 20_000)
    assert pa.total_allocated_bytes() - before < 30_000_000


def test_a_table_that_declares_a_large_size_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted_files, "LARGEST_UNPACKED", 2_000_000)
    for length, reason in ((1_990_000, "too long"), (2_000_000, "too large unpacked")):
        with pytest.raises(NotASweepError, match=reason):
            columns_of_parquet(parquet(with_errors(pa.array(["x" * length]))), NAMES, (), TEXTS, 20_000)


def test_the_pandas_metadata_of_a_file_is_ignored() -> None:
    for metadata in (b"[" * 200_000, b'{"index_columns": 7}', b"\xff", b'{"columns": [{"metadata": "x"}]}'):
        content = parquet(with_errors(pa.array(["no"])).replace_schema_metadata({b"pandas": metadata}))
        assert len(table_from(content, ".parquet", 20_000, foreign=False)) == 1


def breaking() -> bytes:
    """A table whose footer declares its text columns to be boolean. Asked about such a column, pyarrow 26 calls
    `abort`."""
    content = PARQUET.replace(b"\x15\x0c\x25", b"\x15\x00\x25")
    assert content != PARQUET
    return content


@pytest.mark.parametrize(
    "make",
    [lambda: PARQUET[:-1], lambda: PARQUET[:1000] + PARQUET[1100:], lambda: bytes(range(256)) * 40, breaking],
    ids=["cut off", "a part missing", "noise", "one that crashes its reader"],
)
def test_a_broken_table_gets_a_sentence_and_the_process_survives(make: Callable[[], bytes]) -> None:
    assert not table_or_sentence("a.parquet", make())


def test_a_valid_uploaded_table_opens_unchanged() -> None:
    pd.testing.assert_frame_equal(opened_table("a.parquet", PARQUET), FRAME)
    pd.testing.assert_frame_equal(opened_table("a.csv", CSV), FRAME)


def test_a_reader_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted_files, "TIMEOUT", 0.01)
    start = time.perf_counter()
    with pytest.raises(InvalidInput, match="is not a table"):
        opened_table("a.parquet", PARQUET)
    assert time.perf_counter() - start < TIMEOUT


def test_foreign_parquet_is_never_parsed_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Any] = []
    monkeypatch.setattr(pq, "ParquetFile", lambda *args, **options: pytest.fail("read here"))
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: requests.append(args) or pytest.fail("asked"))
    with pytest.raises(pytest.fail.Exception, match="asked"):
        opened_table("a.parquet", PARQUET)
    assert len(requests) == 1


HEADER = CSV.partition(b"\n")[0] + b"\n"


@pytest.mark.parametrize(
    "content",
    [b"," * 19_000_000, HEADER + b"," * 19_000_000, HEADER + b"\n" * 19_000_000, HEADER + b'"' * 19_000_000,
     HEADER + b',"\n",' * 3_800_000, HEADER + b"\r" * 19_000_000, b"\n" * 19_000_000, HEADER + b"\x00" * 19_000_000,
     HEADER + CSV.split(b"\n")[1] + b'"\n', HEADER * 2, CSV + b",,\n", CSV + b'"', CSV.replace(b"run,", b"run,run,", 1),
     b"\xff" * 10**6, HEADER + b"9" * 10**6, "\ufeff".encode() + CSV, b" " * 20_000_001],
    ids=range(17),
)  # fmt: skip
def test_an_invalid_or_oversized_csv_file_is_rejected_quickly_and_in_little_memory(content: bytes) -> None:
    tracemalloc.start()
    start = time.perf_counter()
    try:
        assert not table_or_sentence("a.csv", content)
        assert time.perf_counter() - start < TIMEOUT
        assert tracemalloc.get_traced_memory()[1] < LARGEST_MEMORY
    finally:
        tracemalloc.stop()


def test_a_csv_file_with_too_many_lines_is_rejected() -> None:
    with pytest.raises(InvalidInput, match=r"more than the 20,000 rows"):
        opened_table("a.csv", HEADER + CSV.split(b"\n")[1] * 1 + b"\n" * 20_001)
    assert len(columns_of_csv(HEADER + b"".join([CSV.split(b"\n")[1] + b"\n"] * 3), NAMES, (), 3)["run"]) == 3


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a", "a.json", "a.parquet.exe", "a." + "x" * 5000, "a.par\x00quet", "../../a.csv",
     "x" * 9999 + ".csv", "<img src=x onerror=alert(1)>.csv", "a.csv/", "\ud800.csv", "CON.csv", "\u202egnp.csv"],
    ids=range(15),
)  # fmt: skip
def test_a_hostile_file_name_gets_a_short_message(name: str) -> None:
    with pytest.raises(InvalidInput) as error:
        opened_table(name, PARQUET)
    assert len(str(error.value)) < LONGEST_NAME + 100


def test_a_table_of_too_many_megabytes_is_rejected_by_its_size() -> None:
    with pytest.raises(InvalidInput, match=rf"too large\. The limit is {LARGEST_UPLOAD} MB"):
        opened_table("a.csv", b" " * (LARGEST_UPLOAD * 1_000_000 + 1))


@pytest.mark.parametrize("number", [-1.0, -np.inf, 1e101, -1e308])
def test_a_table_with_numbers_that_no_chart_can_show_is_rejected(number: float) -> None:
    for name in MEASURES:
        frame = FRAME.copy()
        if DTYPES[name] == "float64":
            frame.loc[1, name] = number
            assert not table_or_sentence("a.csv", table_bytes(frame_to_rows(frame), ".csv"))


@pytest.mark.parametrize("seed", range(3))
def test_every_view_of_a_table_with_extreme_numbers_can_be_drawn(seed: int) -> None:
    random, frame = np.random.default_rng(seed), FRAME.copy()
    for name in MEASURES:
        numbers = [0, 1, 2**62] if DTYPES[name] == "Int64" else [np.nan, np.inf, 1e100, 5e-324, 0.0, -0.0, 1.0]
        numbers = [number for number in numbers if not number < MEASURES[name].log]
        frame[name] = pd.array(random.choice(numbers, size=len(frame)), dtype=DTYPES[name])
    frame["error"] = "<img src=x onerror=alert(1)>"
    frame = opened_table("a.csv", table_bytes(frame_to_rows(frame), ".csv"))
    axes = axes_of(frame)
    for name in MEASURES:
        u_curve(frame, axes, "aux_loss_coef", name, "num_experts", "light").to_json()
        phase_diagram(frame, axes, "aux_loss_coef", "num_experts", name, "light").to_json()
        parallel_coordinates(frame, axes, name, "light").to_json()
    pareto(frame, axes, "imbalance_ratio", "task_loss", "num_experts", "light").to_json()
