"""The traces of a folder: found, judged, followed while they grow, forgotten when memory is short."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import numpy as np
import pytest

from moe_sim.config.errors import InvalidInput
from moe_sim.history.trace import TraceHistory
from moe_sim.history.trace_format import NotATraceError
from moe_sim.live import trace_folder, uploaded_traces
from moe_sim.live.trace_folder import TraceFolder
from moe_sim.live.uploaded_traces import LARGEST_UPLOAD, UploadedTraces
from tests.support.traces import COLLAPSED, EVEN, UNEVEN, write_trace


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_folder, "INTERVAL", 0)
    monkeypatch.setattr(trace_folder, "PAUSE", 0)


def test_without_a_folder_there_is_an_example_of_a_collapse_and_a_rescue() -> None:
    folder = TraceFolder()
    (name,) = folder.names()
    history = folder.open(name)
    assert not folder.can_grow
    busiest = history.by_layer("busiest_share") * history.num_experts
    assert busiest[90:100].max(1).min() > 2.3  # of at most 4 even shares with k = 2
    assert busiest[-1].max() < 1.5
    assert history.header.groups
    assert "task_loss" in history.numbers


def test_a_folder_that_is_not_there_yet_has_no_traces(tmp_path: Path) -> None:
    folder = TraceFolder(tmp_path / "runs")
    assert folder.names() == folder.summaries() == []
    assert folder.can_grow


def test_traces_are_listed_with_the_worst_verdict_first_and_its_layer(tmp_path: Path) -> None:
    write_trace(tmp_path / "a", EVEN, EVEN)
    write_trace(tmp_path / "deeper" / "b", EVEN, COLLAPSED)
    write_trace(tmp_path / "c", EVEN, UNEVEN)
    listed = TraceFolder(tmp_path).summaries()
    assert [(one.name, one.verdict.state, one.layer) for one in listed] == [
        ("deeper/b", "Collapsed", "block.1"), ("c", "Uneven", "block.1"), ("a", "Balanced", "block.0"),
    ]  # fmt: skip
    assert listed[0].about == "Mixtral, 30 records"


def test_a_folder_that_is_a_trace_itself_has_its_own_name(tmp_path: Path) -> None:
    write_trace(tmp_path / "first", EVEN)
    assert TraceFolder(tmp_path / "first").names() == ["first"]


def test_what_is_added_is_read_and_changes_the_verdict(tmp_path: Path) -> None:
    write_trace(tmp_path / "a", EVEN)
    folder = TraceFolder(tmp_path)
    history = folder.open("a")
    assert folder.summaries()[0].verdict.state == "Balanced"
    write_trace(tmp_path / "a", COLLAPSED, records=200)
    assert folder.open("a") is history
    assert len(history) == 230
    assert folder.summaries()[0].verdict.state == "Collapsed"
    write_trace(tmp_path / "b", EVEN)
    assert folder.names() == ["a", "b"]


def test_within_the_interval_nothing_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_trace(tmp_path / "a", EVEN)
    folder = TraceFolder(tmp_path)
    folder.open("a")
    monkeypatch.setattr(trace_folder, "INTERVAL", 1_000)
    write_trace(tmp_path / "a", EVEN)
    assert len(folder.open("a")) == 30


def test_the_list_does_not_stay_behind_what_was_not_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_trace(tmp_path / "a", EVEN)
    folder = TraceFolder(tmp_path)
    folder.open("a")
    write_trace(tmp_path / "a", EVEN)
    monkeypatch.setattr(trace_folder, "INTERVAL", 1_000)
    assert folder.summaries()[0].about == "Mixtral, 30 records"
    monkeypatch.setattr(trace_folder, "INTERVAL", 0)
    assert folder.summaries()[0].about == "Mixtral, 60 records"


@pytest.mark.parametrize("records", [10, 90])
def test_a_trace_that_was_begun_again_is_read_anew(tmp_path: Path, records: int) -> None:
    write_trace(tmp_path / "a", EVEN, records=30)
    folder = TraceFolder(tmp_path)
    assert len(folder.open("a")) == 30
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "other").touch()  # takes the number that the file had, on file systems that reuse it
    write_trace(tmp_path / "a", COLLAPSED, records=records)
    history = folder.open("a")
    assert len(history) == records
    np.testing.assert_array_equal(history.column("load")[0, 0], np.array(COLLAPSED) / 400)


def test_what_is_no_trace_is_listed_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "trace.jsonl").write_text("nonsense\n")
    write_trace(tmp_path / "fine", EVEN)
    folder = TraceFolder(tmp_path)
    assert [(one.name, one.verdict.state) for one in folder.summaries()] == [
        ("fine", "Balanced"),
        ("broken", "Unreadable"),
    ]
    assert "This is not a trace" in folder.summaries()[1].verdict.evidence
    with pytest.raises(NotATraceError):
        folder.open("broken")


@pytest.mark.parametrize("name", ["b", "", "..", "../a", "a/../a"])
def test_only_names_of_the_list_can_be_opened(tmp_path: Path, name: str) -> None:
    write_trace(tmp_path / "a", EVEN)
    with pytest.raises(NotATraceError, match="There is no trace named"):
        TraceFolder(tmp_path).open(name)


def test_a_trace_that_goes_away_leaves_the_list(tmp_path: Path) -> None:
    write_trace(tmp_path / "a", EVEN)
    folder = TraceFolder(tmp_path)
    folder.open("a")
    shutil.rmtree(tmp_path / "a")
    assert folder.names() == []
    with pytest.raises(NotATraceError):
        folder.open("a")


def test_the_least_recently_used_traces_are_forgotten_when_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_trace(tmp_path / name, EVEN)
    folder = TraceFolder(tmp_path)
    monkeypatch.setattr(trace_folder, "MOST_BYTES", 2 * folder.open("a").nbytes)
    first = {name: folder.open(name) for name in "ab"}
    folder.open("a")
    folder.open("c")
    assert folder.open("a") is first["a"]
    assert folder.open("b") is not first["b"]


def test_a_list_is_read_little_by_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write_trace(tmp_path / name, EVEN)
    folder = TraceFolder(tmp_path)
    monkeypatch.setattr(trace_folder, "PATIENCE", -1)
    assert [one.verdict.state for one in folder.summaries()] == ["Reading", "Reading"]
    monkeypatch.setattr(trace_folder, "PATIENCE", 60)
    assert [one.verdict.state for one in folder.summaries()] == ["Balanced", "Balanced"]
    monkeypatch.setattr(trace_folder, "PATIENCE", -1)
    assert [one.verdict.state for one in folder.summaries()] == ["Balanced", "Balanced"]


def test_an_upload_is_read_like_the_file(tmp_path: Path) -> None:
    file = write_trace(tmp_path, EVEN, COLLAPSED, task_loss=2.5)
    history = UploadedTraces().open("mine.jsonl", file.read_bytes())
    np.testing.assert_array_equal(history.column("load"), TraceHistory(file).column("load"))
    assert history.column("task_loss").tolist() == [2.5] * 30
    assert not history.refresh()


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x00\xff" * 100, b"[" * 100_000])
def test_an_upload_that_is_no_trace_gets_a_sentence(content: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"mine\.jsonl.+not a trace"):
        UploadedTraces().open("mine.jsonl", content)


def test_uploads_are_bounded_each_and_all_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_trace(tmp_path, EVEN, records=100).read_bytes()
    uploads = UploadedTraces()
    with pytest.raises(InvalidInput, match=f"The limit is {LARGEST_UPLOAD} MB"):
        uploads.open("x" * 500 + ".jsonl", b" " * (LARGEST_UPLOAD * 1_000_000 + 1))
    held = [uploads.open("a", content)]
    monkeypatch.setattr(uploaded_traces, "MOST_BYTES", held[0].nbytes)
    monkeypatch.setattr(uploaded_traces, "MOST_OF_ALL", 3 * held[0].nbytes)
    held.append(uploads.open("b", content))
    held.append(uploads.open("c", content))
    with pytest.raises(InvalidInput, match="no room"):
        uploads.open("d", content)
    held.clear()
    gc.collect()
    uploads.open("d", content)
    monkeypatch.setattr(uploaded_traces, "MOST_BYTES", 1_000)
    with pytest.raises(InvalidInput, match="needs more memory"):
        uploads.open("e", content)
