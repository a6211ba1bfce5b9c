"""What a reader of other tools' files cannot use is refused with a sentence."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moe_sim.config.errors import InvalidInput
from moe_sim.history.trace_format import MOST_CELLS
from moe_sim.tracing.importing.catalogue import FORMATS
from tests.support.imports import line, logical, npy, parquet, pt, read, routed, router_trace, tokens_per_expert


class Foreign:
    """An object of somebody's own code."""


ROUTER, TOKENS = "is not a record of Megatron-LM's router trace", "is not a record of Megatron-LM's tokens per expert"
SHAPE = "are not whole numbers of the shape"
NUMBERS = "must hold whole numbers from 0"
TABLE = b"step,layer,expert,tokens\n"
REFUSED: dict[str, tuple[str, str, bytes, str]] = {
    # format, file, content, sentence
    "another tool's lines": ("megatron-router", "a.jsonl", line(tokens_per_expert(1, 0, [[1]])), ROUTER),
    "a list": ("megatron-router", "a.jsonl", b"[1]\n", ROUTER),
    "a number": ("megatron-router", "a.jsonl", b"1\n", ROUTER),
    "float choices": ("megatron-router", "a.jsonl", line(router_trace(1, 0, [[0.5, 1]])), ROUTER),
    "true choices": ("megatron-router", "a.jsonl", line(router_trace(1, 0, [[True, 1]])), ROUTER),
    "ragged choices": ("megatron-router", "a.jsonl", line(router_trace(1, 0, [[0, 1], [1]])), ROUTER),
    "flat choices": ("megatron-router", "a.jsonl", line(router_trace(1, 0, [[0]]) | {"top_indices": [0, 1]}), ROUTER),
    "choices as text": ("megatron-router", "a.jsonl", line(router_trace(1, 0, [["0"]])), ROUTER),
    "choices too deep": ("megatron-router", "a.jsonl", line(router_trace(1, 0, [[[1]]])), ROUTER),
    "an impossible expert": ("megatron-router", "a.jsonl", line(router_trace(1, 0, [[MOST_CELLS, 1]])), ROUTER),
    "a negative step": ("megatron-router", "a.jsonl", line(router_trace(-1, 0, [[0, 1]])), ROUTER),
    "a step like no other": ("megatron-router", "a.jsonl", line(router_trace(2**60, 0, [[0, 1]])), ROUTER),
    "a layer by name": ("megatron-router", "a.jsonl", line(router_trace(1, "x", [[0, 1]])), ROUTER),
    "a block by number": ("megatron-router", "a.jsonl", line(router_trace(1, 0, [[0, 1]], block=3)), ROUTER),
    "a layer that rings": (
        "megatron-router", "a.jsonl", line(router_trace(1, 0, [[0, 1]], block="\a")), "cannot be printed"),
    "a torn line in the middle": (
        "megatron-router", "a.jsonl", b'{"step"\n' + line(router_trace(1, 0, [[0, 1]])), "Line 1 of a.jsonl is not"),
    "nothing but a torn line": ("megatron-router", "a.jsonl", b'{"step": 1, "lay', "There is no routing in it"),
    "nothing": ("megatron-router", "a.jsonl", b"", "There is no routing in it"),
    "another tool's counts": ("megatron-tokens", "a.jsonl", line(router_trace(1, 0, [[0, 1]])), TOKENS),
    "negative tokens": ("megatron-tokens", "a.jsonl", line(tokens_per_expert(1, 0, [[5, -1]])), TOKENS),
    "half tokens": ("megatron-tokens", "a.jsonl", line(tokens_per_expert(1, 0, [[5, 0.5]])), TOKENS),
    "no micro-batch": ("megatron-tokens", "a.jsonl", line(tokens_per_expert(1, 0, [])), TOKENS),
    "sums that overflow": ("megatron-tokens", "a.jsonl", line(tokens_per_expert(1, 0, [[2**62, 1]] * 2)), TOKENS),
    "sums of lines that overflow": (
        "megatron-tokens", "a.jsonl", line(tokens_per_expert(1, 0, [[2**52, 1]])) * 2, "There are more than 9,"),
    "layers of other widths": (
        "megatron-tokens", "a.jsonl", line(tokens_per_expert(1, 0, [[1, 2]])) + line(tokens_per_expert(1, 1, [[1]])),
        "Line 2 of a.jsonl has 1 expert; the first line has 2"),
    "a rank with one expert": (
        "megatron-tokens", "a.jsonl", line(tokens_per_expert(1, 0, [[1]])), "at least 2 experts, not 1"),
    "a file of pickled objects": (
        "sglang", "a.pt", pt({"logical_count": Foreign()}), "has written with numbers only"),
    "a bare pickle": ("sglang", "a.pt", pickle.dumps({"logical_count": 1}), "is not a file that torch.save"),
    "text": ("sglang", "a.pt", b"hello", "is not a file that torch.save"),
    "the mode per_pass": ("sglang", "a.pt", pt({"records": []}), "only the mode `stat` can be read"),
    "no dictionary": ("sglang", "a.pt", pt(torch.zeros(1, 1, 2, dtype=torch.int32)), "has no logical_count"),
    "float counts": ("sglang", "a.pt", logical([[1.0, 2.0]]), "has no logical_count of whole numbers"),
    "complex counts": ("sglang", "a.pt", logical([[1j, 2]]), "has no logical_count of whole numbers"),
    "true counts": ("sglang", "a.pt", logical([[True, False]]), "has no logical_count of whole numbers"),
    "sparse counts": (
        "sglang", "a.pt", pt({"logical_count": torch.ones(1, 2, 2, dtype=torch.int32).to_sparse()}),
        "has no logical_count of whole numbers"),
    "counts without memory": (
        "sglang", "a.pt", pt({"logical_count": torch.ones(1, 2, 2, dtype=torch.int32, device="meta")}),
        "has no logical_count of whole numbers"),
    "counts of all passes": ("sglang", "a.pt", logical([1, 2]), r"\(forward passes, layers, experts\)"),
    "negative counts": ("sglang", "a.pt", logical([[1, -2]]), "has negative or impossibly large numbers"),
    "counts that overflow": (
        "sglang", "a.pt", logical([[2**62, 2**62]], dtype=torch.int64), "has negative or impossibly large numbers"),
    "a small file of a large tensor": (
        "sglang", "a.pt", pt({"logical_count": torch.ones(1, dtype=torch.uint8).expand(10**5, 10, 99)}), "too large"),
    "counts of nobody": ("sglang", "a.pt", logical([[0, 0]]), "There is no routing in it"),
    "one expert": ("sglang", "a.pt", logical([[3]]), "at least 2 experts, not 1"),
    "an array of objects": ("vllm", "a.npy", npy(np.array([[[{}]]], object)), "is not an array of NumPy"),
    "an archive of arrays": ("vllm", "a.npy", pt({}), "is not an array of NumPy"),
    "no array": ("vllm", "a.npy", b"hello", "is not an array of NumPy"),
    "an empty file": ("vllm", "a.npy", b"", "is not an array of NumPy"),
    "a torn array": ("vllm", "a.npy", npy(np.ones((3, 2, 2), np.int16))[:-1], "is not an array of NumPy"),
    "float experts": ("vllm", "a.npy", npy(np.ones((1, 1, 2))), SHAPE),
    "true experts": ("vllm", "a.npy", npy(np.ones((1, 1, 2), bool)), SHAPE),
    "a flat array": ("vllm", "a.npy", npy(np.ones((2, 2), int)), SHAPE),
    "an array of nothing": ("vllm", "a.npy", npy(np.ones((0, 2, 2), int)), SHAPE),
    "experts beyond reason": ("vllm", "a.npy", npy(np.full((1, 1, 2), MOST_CELLS)), "experts with impossible numbers"),
    "routed experts as text": ("vllm", "a.json", routed("k05VTVBZ"), SHAPE),
    "routed experts as a mapping": ("vllm", "a.json", routed({"0": [[1]]}), SHAPE),
    "ragged routed experts": ("vllm", "a.json", routed([[[1, 2]], [[1]]]), SHAPE),
    "float routed experts": ("vllm", "a.json", routed([[[1.5, 2]]]), SHAPE),
    "one long name among many": ("vllm", "a.json", routed([[["x" * 10**6, *["y"] * 10**5]]]), SHAPE),
    "a prompt with other layers": (
        "vllm", "a.json", line({"prompt_routed_experts": [[[1, 2]]], "choices": [{"routed_experts": [[[1], [2]]]}]}),
        "has parts with different layers or k"),
    "responses of other models": (
        "vllm", "a.jsonl", routed([[[1, 2]]]) + routed([[[1, 2], [1, 2]]]), "has responses of 1 and of 2 layers"),
    "a response without routing": ("vllm", "a.json", line({"choices": [{"text": "x"}]}), "has no routed_experts"),
    "a server without the option": ("vllm", "a.json", routed(None), "has no routed_experts"),
    "no JSON": ("vllm", "a.json", b"hello", "is neither JSON nor JSON lines"),
    "endless brackets": ("vllm", "a.json", b"[" * 10**5, "is neither JSON nor JSON lines"),
    "a missing column": ("table", "a.csv", b"step,layer\n1,2\n", "has no column expert, tokens; it needs step, layer,"),
    "semicolons": ("table", "a.csv", TABLE.replace(b",", b";"), "has no column step, layer, expert, tokens"),
    "no table": ("table", "a.csv", b"\0\xff\xfe", "is not a table"),
    "an empty table": ("table", "a.csv", b"", "is not a table"),
    "a table of no rows": ("table", "a.csv", TABLE, "must hold whole numbers|There is no routing in it"),
    "a compressed table": ("table", "a.csv.gz", gzip.compress(TABLE), "is not a table|has no column"),
    "half a token": ("table", "a.csv", TABLE + b"1,0,0,0.5\n", f"column tokens of a.csv {NUMBERS}"),
    "a negative expert": ("table", "a.csv", TABLE + b"1,0,-1,5\n", f"The column expert of a.csv {NUMBERS}"),
    "a step by name": ("table", "a.csv", TABLE + b"one,0,0,5\n", f"The column step of a.csv {NUMBERS}"),
    "infinitely many": ("table", "a.csv", TABLE + b"1,0,0,inf\n", f"column tokens of a.csv {NUMBERS}"),
    "a short row": ("table", "a.csv", TABLE + b"1,0,0\n", f"column tokens of a.csv {NUMBERS}"),
    "an impossible number": ("table", "a.csv", TABLE + b"1,0,0,%d\n" % 2**63, f"column tokens of a.csv {NUMBERS}"),
    "too many tokens": ("table", "a.csv", TABLE + b"1,0,0,%d\n" % 2**53 * 1_100, "more than 9,007,199,254,740,992 to"),
    "an expert far away": ("table", "a.csv", TABLE + b"1,0,999999,5\n", "has an expert number 999999; at most 262,143"),
    "a row without a layer": ("table", "a.csv", TABLE + b"1,,0,5\n", "column layer of a.csv must hold numbers or"),
    "a layer of two lines": ("table", "a.csv", TABLE + b'1,"a\nb",0,5\n', "cannot be printed"),
    "more layers than a trace holds": (
        "table", "a.csv", TABLE + b"".join(b"1,%d,0,5\n" % layer for layer in range(1_025)), "more than 1,024 layers"),
    "no Parquet": ("table", "a.parquet", b"hello", "is not a table"),
    "Parquet without the columns": ("table", "a.parquet", parquet().replace(b"expert", b"export"), "a table|no column"),
    "a layer that is a list": ("table", "a.parquet", parquet(layer=[[1]]), "a.parquet is not a table"),
    "a layer that is a mapping": ("table", "a.parquet", parquet(layer=[{"a": 1}]), "a.parquet is not a table"),
    "a layer that is true": ("table", "a.parquet", parquet(layer=[True]), "must hold numbers or names"),
    "tokens that are a list": ("table", "a.parquet", parquet(tokens=[[1]]), f"tokens of a.parquet {NUMBERS}"),
    "tokens that are missing": ("table", "a.parquet", parquet(tokens=[None]), f"tokens of a.parquet {NUMBERS}"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_gets_a_sentence(name: str, tmp_path: Path) -> None:
    format_, file, content, sentence = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InvalidInput, match=sentence) as refusal:
        read(format_, tmp_path / file)
    assert str(refusal.value)[-1] == "."
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ending", [".jsonl", ".npy", ".pt", ".parquet", ".csv"])
def test_a_missing_file_and_a_folder_without_files_get_a_sentence(name: str, ending: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"Cannot read .*missing.*: no such file or directory\."):
        read(name, tmp_path / f"missing{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    with pytest.raises(InvalidInput, match=r"is a directory|There is no (router_trace_)?rank\*.jsonl in"):
        read(name, tmp_path / f"folder{ending}")


def test_a_pickled_object_in_a_file_of_torch_is_never_made(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (tmp_path / "harm",)

    file = tmp_path / "a.pt"
    torch.save({"logical_count": Harm()}, file)
    with pytest.raises(InvalidInput, match="with numbers only"):
        read("sglang", file)
    np.save(tmp_path / "a.npy", np.array([Harm()], object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="is not an array of NumPy"):
        read("vllm", tmp_path / "a.npy")
    assert not (tmp_path / "harm").exists()
