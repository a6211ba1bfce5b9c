"""The formats that can be imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from moe_sim.tracing.importing import megatron, sglang, table, vllm
from moe_sim.tracing.importing.imported import Imported, Options


class Format(NamedTuple):
    """A file format of another tool."""

    description: str
    read: Callable[[Path, Options], Imported]


FORMATS = {
    "megatron-router": Format(
        "Megatron-LM's router trace (Megatron Core 0.19 and 0.20), router_trace_rank*.jsonl, a file or its folder",
        megatron.read_router_trace,
    ),
    "megatron-tokens": Format(
        "Megatron-LM's tokens_per_expert/rank*.jsonl (Megatron Core 0.18 to 0.20), a file or its folder",
        megatron.read_tokens_per_expert,
    ),
    "sglang": Format(
        "SGLang's expert_distribution_recorder_*.pt (SGLang 0.5, mode stat)", sglang.read_distribution
    ),
    "vllm": Format("vLLM's routed_experts (vLLM 0.21), as .npy, JSON or JSON lines", vllm.read_routed_experts),
    "table": Format("a table (CSV or Parquet) with the columns step, layer, expert, tokens", table.read_table),
}  # fmt: skip
