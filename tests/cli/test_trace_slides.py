"""`python -m moe_sim trace export` into a folder: every chart of a trace as a slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import pytest

from moe_sim.charts.traces import figure_names
from moe_sim.cli.main import main
from moe_sim.cli.trace_slides import file_names
from moe_sim.history.files import locked
from moe_sim.history.trace import open_trace
from tests.support.rejections import rejection
from tests.support.traces import COLLAPSED, EVEN, write_trace


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, go.Figure]:
    """The slides that would be drawn, by name. Each file holds its own name."""
    figures: dict[str, go.Figure] = {}

    def draw(slides: dict[str, go.Figure], formats: tuple[str, ...], browser: str, done: Callable[..., None]) -> None:
        assert browser == "a browser"
        figures.update(slides)
        for file in (f"{name}.{format_}" for name in slides for format_ in formats):
            done(file, file.encode())

    monkeypatch.setattr("moe_sim.charts.images.draw", draw)
    monkeypatch.setattr("moe_sim.charts.images.find_browser", lambda named: "a browser")
    return figures


def test_a_folder_receives_every_chart_as_svg_and_png(tmp_path: Path, drawn: dict[str, go.Figure]) -> None:
    write_trace(tmp_path / "in", EVEN, COLLAPSED, task_loss=2.0)
    out = tmp_path / "new" / "slides"
    assert main(["trace", "export", str(tmp_path / "in"), "--out", str(out)]) == 0
    names = figure_names(open_trace(tmp_path / "in"))
    assert {"experts_by_layer", "task_loss"} < {*names} == {*drawn}
    files = {f"{name}.{ending}" for name in names for ending in ("svg", "png")}
    assert {path.name: path.read_text() for path in out.iterdir()} == {file: file for file in files}
    for figure in drawn.values():
        assert (figure.layout.width, figure.layout.height) == (1600, 900)
        assert "Mixtral · layer block.1 · step 30" in [note.text for note in figure.layout.annotations]


def test_a_trace_without_records_has_slides_too(tmp_path: Path, drawn: dict[str, go.Figure]) -> None:
    write_trace(tmp_path, EVEN, records=0)
    assert main(["trace", "export", str(tmp_path), "--out", str(tmp_path / "slides")]) == 0
    assert drawn


def test_logged_numbers_cannot_name_files_elsewhere(tmp_path: Path, drawn: dict[str, go.Figure]) -> None:
    write_trace(tmp_path / "in", EVEN, **{"../../loss": 1.0, "loss/train": 2.0, "loss.train": 3.0, "α": 4.0})
    assert main(["trace", "export", str(tmp_path / "in"), "--out", str(tmp_path / "slides")]) == 0
    assert {"loss", "loss_train", "loss_train_2", "chart"} <= {*drawn}
    assert {path.name for path in tmp_path.iterdir()} == {"in", "slides"}


def test_files_of_charts_have_names_of_their_own() -> None:
    assert file_names(["a b", "a/b", "a_b_2", "a.b", "", "..", "x" * 200]) == [
        "a_b", "a_b_2", "a_b_2_2", "a_b_3", "chart", "chart_2", "x" * 80,
    ]  # fmt: skip


def test_slides_that_cannot_be_drawn_get_a_sentence_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path / "in", EVEN)
    words = ["export", tmp_path / "in", "--out", tmp_path / "slides"]
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "none is on the PATH: install one" in rejection(capsys, "trace", *words)
    monkeypatch.setattr("moe_sim.config.extras.import_module", lambda name: exec(f"raise ImportError({name!r})"))
    assert "needs the package plotly" in rejection(capsys, "trace", *words)
    assert not (tmp_path / "slides").exists()


def test_a_folder_that_another_command_is_writing_is_refused(
    tmp_path: Path, drawn: dict[str, go.Figure], capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path, EVEN)
    (tmp_path / "slides").mkdir()
    with locked(tmp_path / "slides"):
        words = ["export", tmp_path, "--out", tmp_path / "slides"]
        assert rejection(capsys, "trace", *words) == f"Another process is writing {tmp_path / 'slides'}."
    assert "Cannot write /proc/version/x" in rejection(capsys, "trace", "export", tmp_path, "--out", "/proc/version/x")
    assert not drawn
