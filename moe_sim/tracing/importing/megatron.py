"""Megatron-LM's records: its router trace, and its tokens per expert.

Both are JSON lines, one file for each rank. The router trace is that of `megatron/core/transformer/moe/router_trace.py`
in Megatron Core 0.19 and 0.20 (July and August 2026); the tokens per expert are those of
`megatron/training/activation_logging.py` in 0.18 to 0.20 (April to August 2026).

Layers have the numbers of their modules, and those begin at 0 in each pipeline stage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moe_sim.config.errors import InvalidInput
from moe_sim.config.words import plural
from moe_sim.history.trace_format import MOST_CELLS
from moe_sim.tracing.importing.imported import (
    LARGEST_TOTAL,
    Counts,
    Imported,
    Options,
    array_of,
    counts_of_choices,
    files_in,
    in_order,
    lines_of,
    whole_number,
)

FRAMEWORK = "Megatron-LM"
STAGES = "Pipeline stages number their layers from 0: import the ranks of one stage at a time."


def read_router_trace(path: Path, options: Options) -> Imported:
    """`router_trace_rank*.jsonl`, from `--moe-routing-trace-path`: a line for each step and layer with the choices of
    all tokens. Ranks are added up; a decision that several ranks recorded counts as often.

    Raises:
        InvalidInput: with a sentence, if it is something else.
    """
    counts, layers = Counts(), []
    files = files_in(path, "router_trace_rank*.jsonl")
    for name, number, record in _records(files):
        try:
            layer, step, choices = _layer(record), whole_number(record["step"]), record["top_indices"]
            chosen, tokens = (np.zeros(0, np.int64), 0) if choices == [] else counts_of_choices(choices)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InvalidInput(
                f"Line {number:,} of {name} is not a record of Megatron-LM's router trace: step, layer, top_indices."
            ) from None
        counts.add(step, layer, chosen, tokens)
        layers.append(layer)
    imported = counts.imported({layer: _name(layer) for layer in in_order(layers)}, FRAMEWORK, options)
    imported.notices += [STAGES] * (len(files) > 1)
    return imported


def read_tokens_per_expert(path: Path, options: Options) -> Imported:
    """`tokens_per_expert/rank*.jsonl`, from `--save-tokens-per-expert-interval`: the tokens of the experts of a rank,
    for each micro-batch. With expert parallelism, each rank has other experts: rank r has part r mod
    `expert_parallel`; ranks with the same part are added up.

    Raises:
        InvalidInput: with a sentence, if it is something else.
    """
    counts, layers, width = Counts(), [], 0
    files = files_in(path, "rank*.jsonl")
    for name, number, record in _records(files):
        try:
            layer, step = _layer(record), whole_number(record["iter"])
            batches = array_of(record["tpe"])
            if batches.ndim != 2 or batches.dtype.kind not in "iu" or int(batches.min()) < 0:
                raise ValueError
            if batches.sum(dtype=float) > LARGEST_TOTAL:
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InvalidInput(
                f"Line {number:,} of {name} is not a record of Megatron-LM's tokens per expert: iter, layer, tpe."
            ) from None
        experts = batches.shape[1]
        width = width or experts
        if experts != width:
            raise InvalidInput(
                f"Line {number:,} of {name} has {plural(experts, 'expert')}; the first line has {width}."
            )
        if width * options.expert_parallel > MOST_CELLS:
            raise InvalidInput(f"A trace holds at most {MOST_CELLS:,} experts.")
        rank = re.search(r"rank(\d{1,6})", name)
        part = int(rank[1]) % options.expert_parallel if rank else 0
        spread = np.zeros(width * options.expert_parallel, np.int64)
        spread[part * width : (part + 1) * width] = batches.sum(0)
        counts.add(step, layer, spread, int(batches.sum()))
        layers.append(layer)
    known = options if options.num_experts else Options(num_experts=width * options.expert_parallel or None)
    imported = counts.imported({layer: _name(layer) for layer in in_order(layers)}, FRAMEWORK, known)
    imported.notices.append("The file does not tell tokens from choices: with top-k, each token counts k times.")
    imported.notices += [STAGES] * (len(files) > 1)
    return imported


def _records(files: list[Path]) -> Iterator[tuple[str, int, Any]]:
    """The file, the number and the content of each line. A last line that is torn is passed over."""
    for file in files:
        torn = None
        for number, line in enumerate(lines_of(file), 1):
            if torn is not None:
                raise InvalidInput(f"Line {torn:,} of {file.name} is not JSON.")
            if not line:
                continue
            try:
                yield file.name, number, json.loads(line)
            except (ValueError, RecursionError):
                torn = number


def _layer(record: dict[str, Any]) -> tuple[Any, ...]:
    mtp = record.get("mtp_idx")
    block = record.get("block", "decoder")
    if not isinstance(block, str) or len(block) > 40:
        raise ValueError
    return block, None if mtp is None else whole_number(mtp), whole_number(record["layer"])


def _name(layer: tuple[Any, ...]) -> str:
    block, mtp, number = layer
    return f"{block}.layers.{number}" if mtp is None else f"{block}.{mtp}.layers.{number}"
