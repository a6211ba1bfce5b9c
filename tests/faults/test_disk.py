"""A full disk gives one sentence and no incomplete file."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_sim.cli.main import main
from moe_sim.sweep.table import read_table

ROOM = 2_000
"""Largest file size in bytes; the kernel fails the write that goes beyond it."""


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Limit files to `ROOM` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("name", ["run.json", "run.csv", "run.html"])
def test_a_run_that_does_not_fit_gives_a_sentence_and_no_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--steps", "20", "--out", str(tmp_path / name)]) == 2
    *_, sentence = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith(f"Cannot write {tmp_path / name}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("full_disk")
def test_a_file_that_cannot_be_replaced_stays_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("the old one")
    assert main(["train", "--steps", "20", "--out", str(path)]) == 2
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("run.json", "the old one")]


def test_a_sweep_that_does_not_fit_gives_a_sentence_and_can_be_resumed(
    tmp_path: Path, full_disk: None, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "sweep.csv"
    command = [
        "sweep",
        "aux_loss_coef=0,0.01,0.1",
        "--seeds",
        "1",
        "--steps",
        "3",
        "--engine",
        "serial",
        "--out",
        str(table),
    ]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "Cannot write" in err
    assert "Traceback" not in err
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []
    assert not table.exists() or len(read_table(table)) < 3
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
    assert main(command) == 0
    assert len(table.read_text().splitlines()) == 4
    assert list(tmp_path.iterdir()) == [table]
