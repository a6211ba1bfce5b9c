"""Files of other tools are read to the last token. All counts are made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support.imports import json_lines, read, router_trace, routing, tokens_per_expert

# Megatron-LM


def test_a_router_trace_is_counted_by_step_and_layer(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "router_trace_rank0.jsonl", [
        router_trace(7, 1, [[0, 3], [3, 1], [3, 0]]),
        router_trace(7, 10, [[2, 1], [2, 3], [2, 0]]),
        router_trace(7, 2, [[1, 0], [1, 2], [0, 3]]),
        router_trace(9, 1, [[3, 2]]),
    ])  # fmt: skip
    imported = read("megatron-router", file, num_experts=4)
    assert [layer.name for layer in imported.header.layers] == [f"decoder.layers.{number}" for number in (1, 2, 10)]
    assert imported.header.framework == "Megatron-LM"
    assert routing(imported) == {
        (7, "decoder.layers.1"): (3, [2, 1, 0, 3]),
        (7, "decoder.layers.2"): (3, [2, 2, 1, 1]),
        (7, "decoder.layers.10"): (3, [1, 1, 3, 1]),
        (9, "decoder.layers.1"): (1, [0, 0, 1, 1]),
        (9, "decoder.layers.2"): (0, [0, 0, 0, 0]),
        (9, "decoder.layers.10"): (0, [0, 0, 0, 0]),
    }
    assert imported.notices == []


def test_the_router_traces_of_all_ranks_are_added_up(tmp_path: Path) -> None:
    for rank, choices in enumerate(([[0, 1], [1, 2]], [[1, 2]], [])):
        json_lines(tmp_path / f"router_trace_rank{rank}.jsonl", [router_trace(1, 0, choices, rank)])
    (tmp_path / "logits_rank0.bin").write_bytes(b"\0\1")
    assert routing(read("megatron-router", tmp_path)) == {(1, "decoder.layers.0"): (3, [1, 3, 2])}


def test_several_ranks_come_with_a_warning_about_pipeline_stages(tmp_path: Path) -> None:
    for rank in range(2):
        json_lines(tmp_path / f"router_trace_rank{rank}.jsonl", [router_trace(1, 0, [[0, 1]])])
        json_lines(tmp_path / f"rank{rank}.jsonl", [tokens_per_expert(1, 0, [[1, 2]])])
    for name, one in (("megatron-router", "router_trace_rank0.jsonl"), ("megatron-tokens", "rank0.jsonl")):
        words = "Pipeline stages number their layers from 0: import the ranks of one stage at a time."
        assert words in read(name, tmp_path).notices
        assert words not in read(name, tmp_path / one).notices


def test_layers_for_multi_token_prediction_are_their_own(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "router_trace_rank0.jsonl", [
        router_trace(1, 0, [[1, 1]], block="mtp", mtp_idx=1),
        router_trace(1, 0, [[0, 1]]),
        router_trace(1, 0, [[0, 0]], block="mtp", mtp_idx=0),
    ])  # fmt: skip
    assert routing(read("megatron-router", file)) == {
        (1, "decoder.layers.0"): (1, [1, 1]), (1, "mtp.0.layers.0"): (1, [2, 0]), (1, "mtp.1.layers.0"): (1, [0, 2]),
    }  # fmt: skip


def test_a_dropped_choice_counts_for_no_expert(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "router_trace_rank0.jsonl", [router_trace(1, 0, [[0, -1], [-1, -1], [2, 0]])])
    assert routing(read("megatron-router", file)) == {(1, "decoder.layers.0"): (3, [2, 0, 1])}


def test_without_the_number_of_experts_the_user_is_asked_for_it(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "router_trace_rank0.jsonl", [router_trace(1, 0, [[0, 2]])])
    assert read("megatron-router", file).notices == [
        "The file does not say how many experts there are; the highest number is 2. If there are more, say so with "
        "--experts, or dead ones are missing."
    ]


def test_tokens_per_expert_are_added_over_micro_batches(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "rank0.jsonl", [
        tokens_per_expert(100, 3, [[128, 64], [96, 80]]),
        tokens_per_expert(100, 1, [[50, 50]], block="mtp", mtp_idx=0),
        tokens_per_expert(200, 3, [[0, 7]]),
    ])  # fmt: skip
    imported = read("megatron-tokens", file)
    assert routing(imported) == {
        (100, "decoder.layers.3"): (368, [224, 144]), (100, "mtp.0.layers.1"): (100, [50, 50]),
        (200, "decoder.layers.3"): (7, [0, 7]), (200, "mtp.0.layers.1"): (0, [0, 0]),
    }  # fmt: skip
    assert imported.notices == ["The file does not tell tokens from choices: with top-k, each token counts k times."]


def test_with_expert_parallelism_each_rank_brings_its_own_experts(tmp_path: Path) -> None:
    for rank, batch in enumerate(([1, 2], [3, 4], [10, 20], [30, 40])):
        json_lines(tmp_path / f"rank{rank}.jsonl", [tokens_per_expert(5, 0, [batch])])
    spread = read("megatron-tokens", tmp_path, expert_parallel=2)
    assert routing(spread) == {(5, "decoder.layers.0"): (110, [11, 22, 33, 44])}
    assert routing(read("megatron-tokens", tmp_path)) == {(5, "decoder.layers.0"): (110, [44, 66])}
    assert routing(read("megatron-tokens", tmp_path / "rank3.jsonl", expert_parallel=2)) == {
        (5, "decoder.layers.0"): (70, [0, 0, 30, 40])
    }


@pytest.mark.parametrize("name", ["megatron-router", "megatron-tokens"])
def test_a_torn_last_line_loses_itself_only(name: str, tmp_path: Path) -> None:
    lines = [router_trace(step, 0, [[0, 1]]) | tokens_per_expert(step, 0, [[1, 1]]) for step in (1, 2)]
    file = json_lines(tmp_path / "rank0.jsonl", lines)
    file.write_bytes(file.read_bytes()[:-9])
    assert list(routing(read(name, file))) == [(1, "decoder.layers.0")]


# SGLang


def test_the_logical_counts_of_sglang_are_read_by_forward_pass(tmp_path: Path) -> None:
    count = torch.zeros(4, 3, 4, dtype=torch.int32)  # the second pass had no tokens; the first layer is dense
    count[0, 1], count[0, 2] = torch.tensor([5, 0, 1, 2]), torch.tensor([2, 2, 2, 2])
    count[2, 1], count[2, 2] = torch.tensor([0, 0, 0, 9]), torch.tensor([1, 2, 3, 3])
    file = tmp_path / "expert_distribution_recorder_1760000000.1.pt"
    torch.save({"rank": 0, "logical_count": count, "average_utilization_rate_over_window": 0.75}, file)
    imported = read("sglang", file)
    assert routing(imported) == {
        (1, "layers.1"): (8, [5, 0, 1, 2]), (1, "layers.2"): (8, [2, 2, 2, 2]),
        (3, "layers.1"): (9, [0, 0, 0, 9]), (3, "layers.2"): (9, [1, 2, 3, 3]),
    }  # fmt: skip
    assert imported.header.framework == "SGLang"
    assert imported.notices == ["A step is a forward pass of the server; tokens are not told from choices."]


# vLLM

# (3 tokens, 2 layers, 2 choices)
CHOICES = [[[0, 1], [3, 2]], [[0, 2], [3, 2]], [[0, 1], [3, 0]]]
COUNTED = {(1, "layers.0"): (3, [3, 2, 1, 0]), (1, "layers.1"): (3, [1, 0, 2, 3])}


@pytest.mark.parametrize("dtype", ["int16", "uint8", ">i4", "int64"])
def test_an_array_of_vllm_is_one_step(dtype: str, tmp_path: Path) -> None:
    file = tmp_path / "routed_experts.npy"
    np.save(file, np.array(CHOICES, dtype))
    assert routing(read("vllm", file)) == COUNTED


def test_a_long_response_can_be_cut_into_steps(tmp_path: Path) -> None:
    file = tmp_path / "routed_experts.npy"
    np.save(file, np.array(CHOICES, np.int16))
    assert routing(read("vllm", file, tokens_per_step=2, num_experts=5)) == {
        (1, "layers.0"): (2, [2, 1, 1, 0, 0]), (1, "layers.1"): (2, [0, 0, 2, 2, 0]),
        (2, "layers.0"): (1, [1, 1, 0, 0, 0]), (2, "layers.1"): (1, [1, 0, 0, 1, 0]),
    }  # fmt: skip


def response(prompt: Any, *choices: Any) -> dict[str, Any]:
    """A completion of vLLM's server."""
    return {
        "id": "cmpl-1", "object": "text_completion", "prompt_routed_experts": prompt,
        "choices": [{"index": index, "routed_experts": one} for index, one in enumerate(choices)],
    }  # fmt: skip


def test_a_response_of_vllm_is_its_prompt_and_its_completions(tmp_path: Path) -> None:
    file = tmp_path / "response.json"
    for content in (response(CHOICES[:1], CHOICES[1:2], CHOICES[2:]), [response(None, CHOICES)]):
        for indent in (None, 1):
            file.write_text(json.dumps(content, indent=indent))
            assert routing(read("vllm", file)) == COUNTED


def test_each_response_on_a_line_is_a_step_and_a_torn_one_is_passed_over(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "responses.jsonl", [response(CHOICES[:1]), response(None, CHOICES[1:])])
    two = {
        (1, "layers.0"): (1, [1, 1, 0, 0]), (1, "layers.1"): (1, [0, 0, 1, 1]),
        (2, "layers.0"): (2, [2, 1, 1, 0]), (2, "layers.1"): (2, [1, 0, 1, 2]),
    }  # fmt: skip
    assert routing(read("vllm", file)) == two
    file.write_bytes(file.read_bytes() + file.read_bytes()[:60])
    assert routing(read("vllm", file)) == two


# Tables

ROWS = pd.DataFrame(
    [(2, 10, 1, 5), (1, 2, 0, 3), (1, 10, 2, 4), (1, 2, 3, 1), (1, 2, 0, 6), (2, 2, 1, 0)],
    columns=["step", "layer", "expert", "tokens"],
)
SUMMED = {
    (1, "layers.2"): (10, [9, 0, 0, 1]), (1, "layers.10"): (4, [0, 0, 4, 0]),
    (2, "layers.2"): (0, [0, 0, 0, 0]), (2, "layers.10"): (5, [0, 5, 0, 0]),
}  # fmt: skip


@pytest.mark.parametrize("change", [
    {}, {"tokens": "float64"}, {"layer": "float64"}, {"step": "uint8"}, {"layer": "category"},
])  # fmt: skip
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_rows_of_a_table_are_added_up(ending: str, change: dict[str, Any], tmp_path: Path) -> None:
    file, frame = tmp_path / f"table.{ending}", ROWS.assign(comment="x").astype(change)
    frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file)
    assert routing(read("table", file)) == SUMMED


def test_layers_by_name_are_in_the_order_of_the_numbers_in_them(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    rows = "".join(f"1, model.layers.{number}.mlp, {expert}, {number}\n" for number in (10, 2, 1) for expert in (0, 1))
    file.write_text(f"step, layer, expert, tokens\n{rows}")
    assert routing(read("table", file)) == {
        (1, f"model.layers.{number}.mlp"): (2 * number, [number, number]) for number in (1, 2, 10)
    }
    assert [layer.name[13:-4] for layer in read("table", file).header.layers] == ["1", "2", "10"]
