"""`python -m moe_sim trace show` and `export`: verdicts, tables and pages."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from moe_sim.cli.main import main
from tests.support.rejections import rejection
from tests.support.traces import COLLAPSED, EVEN, UNEVEN, write_trace


def titles(out: str) -> list[str]:
    """The folders of the traces that are shown."""
    return [row.split(" (")[0] for row in out.splitlines() if "(Mixtral" in row]


# Show


@pytest.mark.parametrize(("counts", "code", "state"), [
    (EVEN, 0, "Balanced"), (UNEVEN, 0, "Uneven"), (COLLAPSED, 3, "Collapsed"),
])  # fmt: skip
def test_the_exit_code_tells_a_collapse(
    counts: tuple[int, ...], code: int, state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path, counts, framework="transformers 5")
    assert main(["trace", "show", str(tmp_path)]) == code
    title, verdict, *_ = capsys.readouterr().out.splitlines()
    assert title == f"{tmp_path} (Mixtral, transformers 5, 30 records, to step 30)"
    assert verdict.startswith(f"{state}: ")


def test_layers_are_listed_with_their_numbers_the_worst_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path, EVEN, COLLAPSED)
    assert main(["trace", "show", str(tmp_path / "trace.jsonl")]) == 3
    *_, head, worst, best = (row.replace("\xa0", "").split() for row in capsys.readouterr().out.splitlines())
    assert head == ["layer", "experts", "per", "token", "busiest", "max/min", "dead", "verdict"]
    assert worst == ["block.1", "4", "1", "98%", "197", "3", "Collapsed"]  # of 394, 2, 2, 2
    assert best == ["block.0", "4", "1", "25%", "1", "0", "Balanced"]


@pytest.mark.parametrize(("words", "listed", "last"), [([], 20, "… and 3 layers more; --all lists them."), (
    ["--all"], 23, "",
)])  # fmt: skip
def test_many_layers_are_cut_short_unless_all_are_asked_for(
    words: list[str], listed: int, last: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path, *[EVEN] * 23)
    assert main(["trace", "show", str(tmp_path), *words]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert sum(row.startswith("block.") for row in rows) == listed
    assert rows[-1].endswith(last or "Balanced")


def test_one_collapse_in_a_folder_of_traces_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, counts in (("a", EVEN), ("b/deep", COLLAPSED), ("c", EVEN)):
        write_trace(tmp_path / name, counts)
    assert main(["trace", "show", str(tmp_path)]) == 3
    assert titles(capsys.readouterr().out) == [f"{tmp_path / name}" for name in ("a", "b/deep", "c")]


@pytest.mark.parametrize(("counts", "code"), [(EVEN, 2), (COLLAPSED, 3)])
def test_a_broken_trace_among_good_ones_is_reported_and_the_rest_shown(
    counts: tuple[int, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path / "good", counts)
    write_trace(tmp_path / "better", EVEN)
    broken = write_trace(tmp_path / "broken", EVEN)
    broken.write_text("{}\n")
    assert main(["trace", "show", str(tmp_path)]) == code
    out, err = capsys.readouterr()
    assert titles(out) == [f"{tmp_path / name}" for name in ("better", "good")]
    assert err == f"Cannot read {broken}. This is not a trace: its first line does not say so.\n"


def test_where_there_is_no_trace_a_sentence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        assert rejection(capsys, "trace", "show", path) == f"There is no trace in {path}."
    (tmp_path / "trace.jsonl").write_text("{}\n")
    assert rejection(capsys, "trace", "show", tmp_path).endswith("This is not a trace: its first line does not say so.")


def test_a_trace_that_has_only_begun_is_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path, EVEN, records=0)
    assert main(["trace", "show", str(tmp_path)]) == 0
    assert "Ready: Nothing is recorded yet." in capsys.readouterr().out


def test_names_in_a_trace_cannot_control_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path, EVEN, model="Mix\x1b[2Jtral", framework="a\x07b")
    assert main(["trace", "show", str(tmp_path)]) == 0
    assert "(Mix\N{REPLACEMENT CHARACTER}[2Jtral, a\N{REPLACEMENT CHARACTER}b, 30" in capsys.readouterr().out


# Export


@pytest.mark.parametrize("tidy", [False, True])
def test_tables_have_the_numbers_of_the_trace(tidy: bool, tmp_path: Path) -> None:
    write_trace(tmp_path, EVEN, UNEVEN, records=3, task_loss=2.5)
    words = ["trace", "export", str(tmp_path), *["--tidy"] * tidy, "--out"]
    assert main([*words, str(tmp_path / "a.csv")]) == main([*words, str(tmp_path / "a.PARQUET")]) == 0
    frame = pd.read_csv(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(frame, pd.read_parquet(tmp_path / "a.PARQUET"), check_dtype=False)
    assert len(frame) == (3 * 2 * 4 if tidy else 3)
    if tidy:
        shares = frame.set_index(["step", "layer", "expert"])["load"]
        assert shares[2].to_list() == [0.25] * 4 + [0.475, 0.425, 0.05, 0.05]  # of 190, 170, 20, 20


def test_a_page_has_the_verdict_and_every_layer(tmp_path: Path) -> None:
    write_trace(tmp_path, EVEN, COLLAPSED)
    assert main(["trace", "export", str(tmp_path), "--out", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text()
    assert "<title>Mixtral: collapsed</title>" in page
    assert "<td>block.0</td><td>4</td><td>25\xa0%</td><td>Balanced</td>" in page


def test_an_export_that_cannot_be_gets_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "in", EVEN)
    (tmp_path / "folder.csv").mkdir()
    for words, sentence in (
        (["in", "--out", "a.pdf"], "a.pdf' must end in one of .csv, .parquet, .html, or be a folder"),
        (["in", "--out", "no/a.csv"], "no/a.csv: No such file or directory."),
        (["in", "--out", "folder.csv"], "folder.csv: it is a directory."),
        (["in", "--out", "a.html", "--tidy"], "--tidy is for .csv and .parquet."),
        (["in", "--out", "slides", "--tidy"], "--tidy is for .csv and .parquet."),
        (["out", "--out", "a.csv"], "no such file"),
    ):  # fmt: skip
        paths = [word if word.startswith("-") else tmp_path / word for word in words]
        assert sentence in rejection(capsys, "trace", "export", *paths)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "folder.csv"}
