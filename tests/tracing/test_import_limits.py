"""How large a file of another tool may be, and what its readers say of themselves."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from moe_sim.cli.trace import add_trace_arguments
from moe_sim.config.errors import InvalidInput
from moe_sim.tracing.importing import imported, table, vllm
from moe_sim.tracing.importing.catalogue import FORMATS
from tests.support.imports import json_lines, npy, parquet, read, router_trace, tokens_per_expert


@pytest.mark.parametrize(("experts", "words"), [(1, "at least 2 experts, not 1"), (2, "an expert number 2, so there")])
def test_a_number_of_experts_that_cannot_be_is_refused(experts: int, words: str, tmp_path: Path) -> None:
    choices = [[0, 0]] if experts == 1 else [[0, 2]]
    file = json_lines(tmp_path / "a.jsonl", [router_trace(1, 0, choices)])
    with pytest.raises(InvalidInput, match=words):
        read("megatron-router", file, num_experts=experts)


def test_more_processes_than_a_trace_has_experts_for_are_refused(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "rank0.jsonl", [tokens_per_expert(1, 0, [[1] * 100])])
    with pytest.raises(InvalidInput, match="A trace holds at most 262,144 experts"):
        read("megatron-tokens", file, expert_parallel=4_096)


def test_files_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "LARGEST_FILE", 2**20)
    monkeypatch.setattr(vllm, "LARGEST_ARRAY", 100)
    monkeypatch.setattr(vllm, "LARGEST_DOCUMENT", 2**10)
    monkeypatch.setattr(table, "MOST_ROWS", 3)
    for name, file, content, words in (
        ("sglang", "a.pt", bytes(2**20 + 1), "a.pt is larger than 1 MB"),
        ("vllm", "a.json", b" " * (2**20 + 1), "a.json is larger than 1 MB"),
        ("vllm", "b.json", b"{\n" + b'"x": 1,\n' * 200, "b.json is larger than 0 MB; write JSON lines"),
        ("vllm", "a.npy", npy(np.ones((101, 1, 1), int)), "a.npy has more than 100 choices"),
        ("table", "a.csv", b"step,layer,expert,tokens\n" + b"1,0,0,1\n" * 4, "a.csv has more than 3 rows; import"),
        ("table", "a.parquet", parquet(step=[1] * 4, layer=[0] * 4, expert=[0] * 4, tokens=[1] * 4), "than 3 rows"),
    ):  # fmt: skip
        (tmp_path / file).write_bytes(content)
        with pytest.raises(InvalidInput, match=words):
            read(name, tmp_path / file)


def test_lines_and_counts_beyond_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "LONGEST_LINE", 1_000)
    monkeypatch.setattr(imported, "MOST_COUNTS", 100)
    file = json_lines(tmp_path / "a.jsonl", [router_trace(step, 0, [[0, 30]]) for step in range(4)])
    with pytest.raises(InvalidInput, match="There are more than 100 counts; import fewer steps at once"):
        read("megatron-router", file)
    file = json_lines(tmp_path / "b.jsonl", [router_trace(step, step, [[0, 1]]) for step in range(10)])
    with pytest.raises(
        InvalidInput, match="There are more than 100 counts"
    ):  # two each are there, but all have a place
        read("megatron-router", file)
    file.write_bytes(b" " * 1_001)
    with pytest.raises(InvalidInput, match="has a line of more than 1,000 bytes"):
        read("megatron-router", file)


@pytest.mark.parametrize(
    ("name", "version"),
    [("megatron-router", "Megatron Core 0.19"), ("megatron-tokens", "Megatron Core 0.18"), ("sglang", "SGLang 0.5"),
     ("vllm", "vLLM 0.21")],
)  # fmt: skip
def test_each_reader_and_the_help_name_the_version_that_is_read(name: str, version: str) -> None:
    parser = argparse.ArgumentParser()
    add_trace_arguments(parser)
    actions = parser._subparsers._group_actions[0].choices
    description = FORMATS[name].description
    assert version in description
    assert f"{name}: {description}" in " ".join(actions["import"].format_help().split())
    module = import_module(FORMATS[name].read.__module__)
    assert version.split()[-1] in (module.__doc__ or "")
