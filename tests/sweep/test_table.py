"""Rows to and from Parquet and CSV, and a store that loses nothing."""

from __future__ import annotations

import io
import json
import math
import threading
from pathlib import Path

import pandas as pd
import pytest

from moe_sim import KNOBS
from moe_sim.history.files import CannotWriteError, locked
from moe_sim.history.from_json import run_from_json
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.store import Histories, Store
from moe_sim.sweep.table import DTYPES, frame_to_rows, read_table, rows_to_frame, table_bytes, write_table
from moe_sim.sweep.untrusted_files import NotASweepError
from moe_sim.sweep.worker import HISTORY, Row, failed_row, run_cell
from tests.support.sweeping import SMALL, plain, small_grid

CELLS = small_grid(seeds=4).cells()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Rows of a typical run, of one with a capacity limit and non-finite numbers, of a diverged and of a failed run."""
    typical = run_cell(Cell(SMALL, 12))
    limited = run_cell(Cell(SMALL.replace(capacity_factor=1.25, renormalize=True, top_k=2), 12))
    limited |= {"imbalance_ratio": math.inf, "specialization": math.nan, "first_dead_step": 7, "task_loss": 0.1 + 0.2}
    diverged = run_cell(Cell(SMALL.replace(learning_rate=1000), 300))
    failed = failed_row(Cell(SMALL.replace(seed=2**31 - 1), 12), "=2+2: 'quoted', and a comma")
    return [typical, limited, diverged, failed]


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_rows_survive_a_round_trip_to_the_last_digit(rows: list[Row], ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"sweep{ending}"
    write_table(rows, path)
    assert plain(frame_to_rows(read_table(path))) == plain(rows)


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_columns_keep_their_types_whatever_their_values(rows: list[Row], ending: str, tmp_path: Path) -> None:
    for some in (rows, rows[:1], rows[3:], []):
        path = tmp_path / f"sweep{ending}"
        write_table(some, path)
        frame = read_table(path)
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == DTYPES
        assert len(frame) == len(some)
    assert DTYPES["capacity_factor"] == "float64"
    assert DTYPES["renormalize"] == "bool"
    assert DTYPES["first_dead_step"] == "Int64"


def test_pandas_opens_the_parquet_file_with_its_types(rows: list[Row]) -> None:
    frame = pd.read_parquet(io.BytesIO(table_bytes(rows, ".parquet")))
    assert frame["imbalance_ratio"][1] == math.inf
    assert frame["capacity_factor"].isna().tolist() == [True, False, True, True]
    assert frame["renormalize"].dtype == bool


def test_a_spreadsheet_finds_no_formula_in_the_csv(rows: list[Row]) -> None:
    text = table_bytes(rows, ".csv").decode()
    assert "\"'=2+2" in text or "'=2+2" in text
    assert ",=2+2" not in text


def test_a_run_name_that_looks_like_a_number_stays_text(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    write_table([{**rows[0], "run": "12e456789012"}, {**rows[1], "run": "000000000007"}], path)
    assert read_table(path)["run"].tolist() == ["12e456789012", "000000000007"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"not a table"),
        ("a.parquet", b""),
        ("a.csv", b""),
        ("a.csv", b"step,task_loss\r\n1,2.5\r\n"),
        ("a.csv", b"\xff\xfe\x00"),
    ],
)
def test_a_file_that_is_not_a_sweep_is_rejected_and_left_unchanged(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(NotASweepError, match=r"is not a table .*\.$"):
        Store(path)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_table_with_unexpected_columns_or_values_is_rejected(rows: list[Row], tmp_path: Path) -> None:
    frame = rows_to_frame(rows[:1])
    path = tmp_path / "sweep.parquet"
    frame.assign(num_experts="many").to_parquet(path)
    with pytest.raises(NotASweepError, match="hold unexpected values"):
        Store(path)
    frame.assign(num_experts=1000).to_parquet(path)
    with pytest.raises(NotASweepError, match="invalid configuration"):
        Store(path)
    frame.drop(columns="top_k").to_parquet(path)
    with pytest.raises(NotASweepError, match="no column top_k"):
        Store(path)


def test_another_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(NotASweepError, match=r"must end in one of \.parquet, \.csv"):
        Store(tmp_path / "sweep.xlsx")


def test_a_path_that_is_not_writable_is_rejected_at_once(tmp_path: Path) -> None:
    with pytest.raises(CannotWriteError, match="Cannot write"):
        Store(tmp_path / "nowhere" / "sweep.parquet")


def test_a_row_is_durable_as_soon_as_it_is_added(tmp_path: Path) -> None:
    path = tmp_path / "sweep.parquet"
    killed = Store(path)
    kept = [run_cell(cell) for cell in CELLS[:3]]
    for row in kept:
        killed.add(row)
    assert not path.exists()
    again = Store(path)
    assert plain(again.rows) == plain(kept)
    assert [again.row(cell) is not None for cell in CELLS] == [True, True, True, False]


def test_an_incomplete_line_is_ignored_and_the_next_row_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    first, second, third = (run_cell(cell) for cell in CELLS[:3])
    store = Store(path)
    store.add(first)
    store.add(second)
    content = store.journal.read_bytes()
    store.journal.write_bytes(content[:-40])
    again = Store(path)
    assert plain(again.rows) == plain([first])
    again.add(third)
    assert plain(Store(path).rows) == plain([first, third])


def test_finishing_writes_the_table_in_the_grids_order_and_removes_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "sweep.parquet"
    store = Store(path)
    for cell in reversed(CELLS):
        store.add(run_cell(cell))
    store.finish(CELLS)
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.parquet"]
    assert plain(Store(path).rows) == plain(run_cell(cell) for cell in CELLS)


def test_rows_of_other_grids_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "sweep.parquet"
    other = run_cell(Cell(SMALL, 7))
    write_table([other], path)
    store = Store(path)
    store.add(run_cell(CELLS[0]))
    store.finish(CELLS)
    assert plain(Store(path).rows) == plain([other, run_cell(CELLS[0])])


def test_a_failed_run_counts_as_missing_and_its_new_row_replaces_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "sweep.csv")
    store.add(failed_row(CELLS[0], "no"))
    assert store.row(CELLS[0]) is None
    store.add(run_cell(CELLS[0]))
    store.finish(CELLS)
    assert [row["status"] for row in Store(store.path).rows] == ["done"]


def test_a_diverged_run_is_not_repeated(tmp_path: Path) -> None:
    cell = Cell(SMALL.replace(learning_rate=1000), 300)
    store = Store(tmp_path / "sweep.csv")
    store.add(run_cell(cell))
    assert store.row(cell) is not None


def test_a_file_that_is_not_a_journal_is_rejected(tmp_path: Path) -> None:
    for content in ("shopping list\n", '{"run": 1}\n', "[]\n"):
        journal = tmp_path / "sweep.csv.partial"
        journal.write_text(content)
        with pytest.raises(NotASweepError, match="not a journal"):
            Store(tmp_path / "sweep.csv")
        assert journal.read_text() == content


def test_the_journal_is_kept_if_the_table_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "sweep.parquet")
    store.add(run_cell(CELLS[0]))

    def full(rows: object, path: Path) -> None:
        raise CannotWriteError("Cannot write: No space left on device.")

    monkeypatch.setattr("moe_sim.sweep.store.write_table", full)
    with pytest.raises(CannotWriteError):
        store.finish(CELLS)
    assert len(Store(store.path).rows) == 1


def test_each_line_of_the_journal_is_one_row(tmp_path: Path) -> None:
    store = Store(tmp_path / "sweep.parquet")
    store.add(run_cell(CELLS[0]))
    [line] = store.journal.read_text().splitlines()
    assert json.loads(line)["seed"] == CELLS[0].config.seed


def test_histories_are_files_named_by_the_column_run_that_the_app_opens(tmp_path: Path) -> None:
    histories = Histories(tmp_path / "deep" / "runs")
    row = run_cell(CELLS[0], with_history=True)
    assert not histories.has(CELLS[0])
    histories.keep(CELLS[0], row[HISTORY])
    assert histories.has(CELLS[0])
    history, _ = run_from_json((tmp_path / "deep" / "runs" / f"{row['run']}.json").read_text())
    assert history.initial_config.model_dump() == {name: row[name] for name in KNOBS}


# Two sweeps with one file


def test_two_sweeps_with_one_file_lose_no_row(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    one, other = Store(path), Store(path)
    one.add(run_cell(CELLS[0]))
    other.add(run_cell(CELLS[1]))
    one.finish(CELLS[:1])
    other.add(run_cell(CELLS[2]))
    other.finish(CELLS[1:3])
    assert plain(Store(path).rows) == plain(run_cell(cell) for cell in CELLS[:3])
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.csv"]


def test_a_run_that_failed_in_one_of_two_sweeps_keeps_the_row_of_the_other(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    one, other = Store(path), Store(path)
    one.add(run_cell(CELLS[0]))
    one.finish(CELLS[:1])
    other.add(failed_row(CELLS[0], "no memory"))
    other.finish(CELLS[:1])
    assert plain(Store(path).rows) == plain([run_cell(CELLS[0])])


def test_a_row_is_complete_after_one_that_another_sweep_left_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    store = Store(path)
    store.add(run_cell(CELLS[0]))
    with store.journal.open("ab") as journal:
        journal.write(b'{"run": "killed wh')
    store.add(run_cell(CELLS[1]))
    assert plain(Store(path).rows) == plain(run_cell(cell) for cell in CELLS[:2])


def test_a_file_that_was_replaced_during_a_sweep_is_left_unchanged_and_the_rows_stay_in_the_journal(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sweep.csv"
    store = Store(path)
    store.add(run_cell(CELLS[0]))
    path.write_text("chapter,words\n")
    with pytest.raises(NotASweepError, match="is not a table"):
        store.finish(CELLS)
    assert path.read_text() == "chapter,words\n"
    assert len(store.journal.read_text().splitlines()) == 1


def test_a_sweep_waits_for_another_one_that_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sweep.csv"
    store = Store(path)
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(path):
            held.set()
            released.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    monkeypatch.setattr("moe_sim.sweep.store.LOCK_TIMEOUT", 0.1)
    with pytest.raises(CannotWriteError, match=r"Another process is writing .*sweep\.csv\."):
        store.add(run_cell(CELLS[0]))
    monkeypatch.setattr("moe_sim.sweep.store.LOCK_TIMEOUT", 30.0)
    threading.Timer(0.2, released.set).start()
    store.add(run_cell(CELLS[0]))
    holder.join()
    assert len(Store(path).rows) == 1
