"""Trace files: what is written is read, torn and damaged lines lose themselves only, no file does harm."""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import metrics
from moe_sim.history import trace_writer
from moe_sim.history.files import CannotWriteError
from moe_sim.history.trace import TraceHistory, open_trace
from moe_sim.history.trace_format import (
    NotATraceError,
    Routed,
    TracedLayer,
    TraceHeader,
    TraceRecord,
    header_line,
    read_header,
    read_record,
    record_line,
)
from moe_sim.history.trace_writer import TraceWriter
from tests.support.commands import running

HEADER = TraceHeader(
    (TracedLayer("a.mlp", 4, "logits"), TracedLayer("b.mlp", 3)), "Model", "frame 1.2", {"router_aux_loss_coef": 0.01}
)


def routed(rng: np.random.Generator, header: TraceHeader = HEADER, most: int = 300) -> Routed:
    counts = rng.integers(0, most, header.num_cells)
    return Routed(np.add.reduceat(counts, header.offsets[:-1]), counts)


def write(path: Path, records: int = 30, header: TraceHeader = HEADER, seed: int = 0) -> list[np.ndarray]:
    """A trace, and the counts in it."""
    rng, counts = np.random.default_rng(seed), []
    with TraceWriter(path, header) as writer:
        for step in range(1, records + 1):
            one = routed(rng, header)
            counts.append(one.counts)
            writer.write(TraceRecord(writer.last_step + 1, one, None, {"task_loss": step / 2}))
    return counts


numbers = st.floats(0, 1, width=32)


@st.composite
def headers_and_records(draw: st.DrawFn) -> tuple[TraceHeader, TraceRecord]:
    experts = draw(st.lists(st.integers(2, 9), min_size=1, max_size=4))
    names = draw(st.lists(st.text(max_size=20), min_size=len(experts), max_size=len(experts)))
    groups = tuple(draw(st.lists(st.text(max_size=9), max_size=3)))
    layers = tuple(TracedLayer(name, count) for name, count in zip(names, experts, strict=True))
    header = TraceHeader(layers, draw(st.text(max_size=9)), "", {"k": draw(st.none() | st.booleans())}, groups)
    cells, most = sum(experts), draw(st.sampled_from([2, 2**8, 2**16, 2**32, 2**50]))

    def array(size: int, of: st.SearchStrategy[float]) -> np.ndarray:
        return np.array(draw(st.lists(of, min_size=size, max_size=size)))

    part = Routed(
        array(len(experts), st.integers(0, 2**50)), array(cells, st.integers(0, most)),
        importance=array(cells, numbers).astype(np.float32), entropy=array(len(experts), numbers),
        logit_max=draw(st.none()) and None,
        groups=array(len(groups) * cells, st.integers(0, most)).reshape(-1, cells) if groups else None,
    )  # fmt: skip
    logged = draw(st.dictionaries(st.text(max_size=9), numbers, max_size=3))
    return header, TraceRecord(draw(st.integers(0, 2**40)), part, draw(st.none() | st.just(part)), logged)


@given(headers_and_records())
def test_a_line_holds_all_that_was_written(both: tuple[TraceHeader, TraceRecord]) -> None:
    header, record = both
    assert read_header(header_line(header)) == header
    back = read_record(record_line(record), header)
    assert (back.step, back.numbers) == (record.step, record.numbers)
    for one, other in ((record.training, back.training), (record.evaluation, back.evaluation)):
        assert (one is None) == (other is None)
        for name in vars(one) if one is not None else ():
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_columns_are_what_the_definitions_say(tmp_path: Path) -> None:
    counts = np.array(write(tmp_path, 50))
    history = open_trace(tmp_path)
    for layer, part in enumerate((counts[:, :4], counts[:, 4:])):
        load = part / part.sum(1, keepdims=True)
        experts = part.shape[1]
        np.testing.assert_allclose(history.column("load")[:, layer, :experts], load)
        smoothed = pd.DataFrame(load).ewm(alpha=1 / 20).mean().to_numpy()
        np.testing.assert_allclose(history.column("smoothed_load")[:, layer, :experts], smoothed)
        np.testing.assert_allclose(history.by_layer("imbalance_ratio")[:, layer], metrics.imbalance_ratio(load))
        np.testing.assert_allclose(history.by_layer("max_violation")[:, layer], load.max(1) * experts - 1)
        ratio = metrics.imbalance_ratio(smoothed)
        np.testing.assert_allclose(history.by_layer("smoothed_imbalance")[:, layer], ratio, rtol=1e-6)
        np.testing.assert_array_equal(history.by_layer("dead_experts")[:, layer], metrics.dead_experts(smoothed))
    assert np.isnan(history.column("load")[:, 1, 3]).all()  # the second layer has three experts
    assert history.column("task_loss").tolist() == [step / 2 for step in range(1, 51)]
    np.testing.assert_array_equal(history.column("max_violation"), history.by_layer("max_violation").max(1))
    np.testing.assert_allclose(history.column("load_cv"), history.by_layer("load_cv").mean(1))
    np.testing.assert_array_equal(history.column("load", 10, 12), history.column("load")[10:12])
    assert not history.column("load").flags.writeable


def test_a_smoothed_load_late_in_a_long_trace_is_that_from_its_beginning(tmp_path: Path) -> None:
    counts = np.array(write(tmp_path, 1_000))[:, :4]
    smoothed = pd.DataFrame(counts / counts.sum(1, keepdims=True)).ewm(alpha=1 / 20).mean().to_numpy()
    history = open_trace(tmp_path)
    np.testing.assert_allclose(history.of_layers("smoothed_load", 900, 905, 0)[:, 0], smoothed[900:905], rtol=1e-7)
    np.testing.assert_allclose(history.last("smoothed_load")[0], smoothed[-1], rtol=1e-7)


def test_a_growing_trace_is_read_as_it_grows_and_summarized_as_at_once(tmp_path: Path) -> None:
    write(tmp_path / "whole", 60)
    content = (tmp_path / "whole" / "trace.jsonl").read_bytes()
    file = tmp_path / "part.jsonl"
    lines = content.splitlines(keepends=True)
    file.write_bytes(lines[0])
    history = open_trace(file)
    assert len(history) == 0
    assert np.isnan(history.last("load")).all()
    for begin in range(1, len(lines), 7):
        with file.open("ab") as growing:
            growing.write(b"".join(lines[begin : begin + 7])[:-5])  # the last line is not there yet
        history.refresh()
        assert len(history) == begin + len(lines[begin : begin + 7]) - 2
        with file.open("ab") as growing:
            growing.write(b"".join(lines[begin : begin + 7])[-5:])
        assert history.refresh()
        assert not history.refresh()
    whole = open_trace(tmp_path / "whole")
    for name in ("load", "smoothed_imbalance", "dead_experts", "task_loss"):
        np.testing.assert_allclose(history.column(name), whole.column(name), rtol=1e-6)


def test_a_torn_line_loses_itself_only_and_the_next_run_appends(tmp_path: Path) -> None:
    write(tmp_path, 5)
    file = tmp_path / "trace.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    assert open_trace(tmp_path).column("step").tolist() == [1, 2, 3, 4]
    write(tmp_path, 2)
    history = open_trace(tmp_path)
    assert history.column("step").tolist() == [1, 2, 3, 4, 5, 6]
    assert history.skipped == 1


def is_complete(line: bytes) -> bool:
    try:
        return "step" in json.loads(line)
    except ValueError:
        return False


def test_killing_the_writer_at_any_moment_loses_no_complete_record(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.history.test_trace import write; "
        "write(Path(sys.argv[1]), 1_000_000)"
    )
    for wait in (0.05, 0.2):
        file, before = tmp_path / "trace.jsonl", open_trace(tmp_path) if (tmp_path / "trace.jsonl").exists() else None
        known = len(before) if before is not None else 0
        with running([sys.executable, "-c", program, str(tmp_path)]):
            while not (file.exists() and file.read_bytes().count(b"\n") > known + 20):
                time.sleep(0.01)
            time.sleep(wait)
        complete = sum(map(is_complete, file.read_bytes().split(b"\n")[:-1]))
        history = open_trace(tmp_path)
        assert len(history) == complete > known
        assert history.column("step").tolist() == list(range(1, len(history) + 1))


def test_a_large_trace_becomes_thinner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "THINNED_FROM", 1_000)
    rarer = []
    with TraceWriter(tmp_path, HEADER) as writer:
        for step in range(1, 60):
            writer.write(TraceRecord(step, routed(np.random.default_rng(step))))
            rarer.append(writer.rarer)
    assert rarer == sorted(rarer)
    assert {1, 2, 4, 8} <= {*rarer}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "first line is not complete"),
        (b"hello\n", "is not a trace"),
        (b'{"format":"expert-collapse-lab-run"}\n', "is not a trace"),
        (b'{"format":"moe-routing-trace","version":2,"layers":[]}\n', "has version '2'; only 1 is known"),
        (b'{"format":"moe-routing-trace","version":1}\n', "first line of this trace is damaged"),
        (b'{"format":"moe-routing-trace","version":1,"layers":[]}\n', "must have a layer"),
        (b'{"format":"moe-routing-trace","version":1,"layers":[{"name":"a","experts":300000}]}\n', "damaged"),
        (b'{"format":"moe-routing-trace","version":1,"layers":[{"name":"a","experts":1e9}]}\n', "damaged"),
    ],
)
def test_what_is_no_trace_gets_a_sentence(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_bytes(content)
    with pytest.raises(NotATraceError, match=words):
        open_trace(tmp_path)


def test_a_missing_trace_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotATraceError, match="no such file"):
        open_trace(tmp_path)


def test_a_small_line_cannot_unpack_to_a_large_array(tmp_path: Path) -> None:
    import zlib
    from base64 import b64encode

    bomb = b64encode(zlib.compress(bytes(2**28), 9)).decode()
    file = tmp_path / "trace.jsonl"
    line = f'{{"step":1,"training":{{"tokens":[1,1],"counts":"u1:{bomb}"}}}}\n'
    file.write_bytes(header_line(HEADER) + line.encode() + b"\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(open_trace(tmp_path)) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_trace_that_is_too_large_for_memory_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    write(tmp_path, 3_000)
    history = TraceHistory(tmp_path / "trace.jsonl", most_bytes=20_000)
    assert history.truncated


MUTATIONS = 5_000


def test_no_damaged_file_does_harm(tmp_path: Path) -> None:
    """Any file is read, or refused with a sentence, fast and in little memory."""
    rng = random.Random(0)
    write(tmp_path, 6, TraceHeader(HEADER.layers, groups=("x",)))
    original, file = (tmp_path / "trace.jsonl").read_bytes(), tmp_path / "damaged.jsonl"
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(MUTATIONS):
        file.write_bytes(damaged(original, rng))
        try:
            history = open_trace(file)
        except NotATraceError:
            refused += 1
            continue
        for name in history.columns:
            history.column(name)
    assert 0 < refused < MUTATIONS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert time.monotonic() - start < 120


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled; or numbers made large."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed)) if changed else 0
        match rng.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randrange(40)]
            case 2:
                changed[at:at] = changed[at : at + rng.randrange(200)]
            case 3:
                changed[at:at] = rng.choice([b"1e999", b"null", b"[", b"{", b'"', b"9" * 400, b"-1", b"NaN", b"\n"])
            case 4:
                del changed[at:]
            case 5:
                digits = [place for place, byte in enumerate(changed) if 48 <= byte < 58]
                if digits:
                    changed[rng.choice(digits)] = rng.choice(b"0123456789")
    return bytes(changed)


def test_a_logged_number_with_the_name_of_a_column_gets_another_name(tmp_path: Path) -> None:
    part = routed(np.random.default_rng(0))
    names = ("load", "tokens", "router_entropy", "smoothed_load", "task_loss")
    with TraceWriter(tmp_path, HEADER) as writer:
        for step in range(1, 4):
            writer.write(TraceRecord(step, part, None, dict.fromkeys(names, step / 2)))
    history = open_trace(tmp_path)
    assert history.numbers == (
        "logged_load",
        "logged_tokens",
        "logged_router_entropy",
        "logged_smoothed_load",
        "task_loss",
    )
    assert history.column("logged_router_entropy").tolist() == [0.5, 1.0, 1.5]
    assert not history.has("router_entropy")
    np.testing.assert_allclose(history.column("load")[0, 0], part.counts[:4] / part.counts[:4].sum())


def test_a_name_that_no_file_can_hold_is_refused() -> None:
    line = header_line(TraceHeader((TracedLayer("a", 2),), "Model")).replace(b'"Model"', b'"\\ud800"')
    with pytest.raises(NotATraceError):
        read_header(line)


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    writer = TraceWriter(tmp_path, HEADER)
    writer._file.close()
    writer._file = Full()  # type: ignore[assignment]
    with pytest.raises(CannotWriteError, match=r"trace\.jsonl: no space left on device\.$"):
        writer.write(TraceRecord(1, routed(np.random.default_rng(0))))
    writer.close()
