"""`python -m moe_sim trace import`: each format becomes a trace that can be opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from moe_sim.cli.main import main
from moe_sim.history.trace import open_trace
from tests.support.imports import line, npy, parquet, pt, routed, router_trace, tokens_per_expert
from tests.support.rejections import rejection
from tests.support.traces import EVEN, write_trace

CHOICES = [[[0, 1], [2, 0]], [[1, 2], [2, 1]]]  # (2 tokens, 2 layers, 2 choices)
COUNTS = [[1, 2, 1], [1, 1, 2]]
TABLE = {name: list(column) for name, column in zip(
    ("step", "layer", "expert", "tokens"),
    zip(*((1, layer, expert, COUNTS[layer][expert]) for layer in range(2) for expert in range(3)), strict=True),
    strict=True,
)}  # fmt: skip
FILES: dict[str, tuple[str, bytes]] = {
    "megatron-router": (
        "router_trace_rank0.jsonl",
        b"".join(line(router_trace(1, layer, [token[layer] for token in CHOICES])) for layer in range(2)),
    ),
    "megatron-tokens": ("rank0.jsonl", b"".join(line(tokens_per_expert(1, one, [COUNTS[one]])) for one in (0, 1))),
    "sglang": ("a.pt", pt({"logical_count": torch.tensor([COUNTS])})),
    "vllm": ("a.npy", npy(np.array(CHOICES))),
    "vllm as JSON": ("a.json", routed(CHOICES)),
    "table": ("a.csv", pd.DataFrame(TABLE).to_csv(index=False).encode()),
    "table as Parquet": ("a.parquet", parquet(**TABLE)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_is_imported_can_be_opened_and_shown(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file, content), out = FILES[name], tmp_path / "new" / "out"
    (tmp_path / file).write_bytes(content)
    words = ["trace", "import", str(tmp_path / file), "--format", name.split(" ")[0], "--out", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"1 record of 2 layers: {out}\n"
    load = open_trace(out).column("load")[0]
    np.testing.assert_array_equal(load, np.array(COUNTS) / 4)
    assert main(["trace", "show", str(out)]) == 0


def test_notices_go_to_stderr_and_options_to_the_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.npy").write_bytes(npy(np.array(CHOICES)))
    words = ["trace", "import", str(tmp_path / "a.npy"), "--format", "vllm", "--out"]
    assert main([*words, str(tmp_path / "a")]) == 0
    assert "the highest number is 2. If there are more" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "b"), "--experts", "8", "--tokens-per-step", "1"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"2 records of 2 layers: {tmp_path / 'b'}\n", "")
    assert open_trace(tmp_path / "b").column("load").shape == (2, 2, 8)


def test_the_ranks_of_a_folder_are_spread_over_the_experts(tmp_path: Path) -> None:
    for rank, batch in enumerate(([1, 2], [3, 4])):
        (tmp_path / f"rank{rank}.jsonl").write_bytes(line(tokens_per_expert(1, 0, [batch])))
    words = ["trace", "import", str(tmp_path), "--format", "megatron-tokens", "--out", str(tmp_path / "out")]
    assert main([*words, "--expert-parallel", "2"]) == 0
    assert open_trace(tmp_path / "out").column("load").tolist() == [[[0.1, 0.2, 0.3, 0.4]]]


def test_a_folder_that_holds_a_trace_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write_trace(tmp_path / "out", EVEN).read_bytes()
    (tmp_path / "a.npy").write_bytes(npy(np.array(CHOICES)))
    words = ["import", tmp_path / "a.npy", "--format", "vllm", "--out", tmp_path / "out"]
    assert rejection(capsys, "trace", *words) == f"{tmp_path / 'out'} holds a trace already; choose another folder."
    assert (tmp_path / "out" / "trace.jsonl").read_bytes() == before


@pytest.mark.parametrize(("words", "sentence"), [
    (["--format", "vlm"], "There is no format 'vlm'; did you mean vllm?"),
    (["--format", "deepspeed"], "choose from megatron-router, megatron-tokens, sglang, vllm, table."),
    (["--format", "table"], "is not a table|has no column"),
    (["--format", "vllm", "--experts", "0"], "--experts must be a whole number from 1 to 262,144, not '0'."),
    (["--format", "vllm", "--experts", "1"], "It has an expert number 2, so there cannot be only 1 expert."),
    (["--format", "vllm", "--expert-parallel", "x"], "--expert-parallel must be a whole number from 1 to 4,096"),
    (["--format", "vllm", "--tokens-per-step", "-3"], "--tokens-per-step|expected one argument"),
])  # fmt: skip
def test_an_import_that_cannot_be_gets_a_sentence_and_leaves_nothing(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.npy").write_bytes(npy(np.array(CHOICES)))
    said = rejection(capsys, "trace", "import", tmp_path / "a.npy", "--out", tmp_path / "out", *words)
    assert any(part in said for part in sentence.split("|"))
    assert not (tmp_path / "out").exists()


def test_a_trace_that_cannot_be_written_gets_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.npy").write_bytes(npy(np.array(CHOICES)))
    (tmp_path / "file").write_bytes(b"")
    for out in ("/proc/out", tmp_path / "file", tmp_path / "file" / "out"):
        words = ["import", tmp_path / "a.npy", "--format", "vllm", "--out", out]
        assert f"Cannot write {out}" in rejection(capsys, "trace", *words)
