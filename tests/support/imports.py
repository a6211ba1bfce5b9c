"""Files of other tools, as these write them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from moe_sim.tracing.importing.catalogue import FORMATS
from moe_sim.tracing.importing.imported import Imported, Options


def read(name: str, path: Path, **options: Any) -> Imported:
    """What a reader of the catalogue makes of a file."""
    return FORMATS[name].read(path, Options(**options))


def routing(imported: Imported) -> dict[tuple[int, str], tuple[int, list[int]]]:
    """The tokens of each step and layer, and the choices of each expert."""
    found, header = {}, imported.header
    for record in imported.records:
        assert record.training is not None
        parts = np.split(record.training.counts, header.offsets[1:-1])
        for layer, tokens, counts in zip(header.layers, record.training.tokens.tolist(), parts, strict=True):
            found[record.step, layer.name] = tokens, counts.tolist()
    return found


def json_lines(path: Path, documents: Iterable[Any]) -> Path:
    """A document on each line."""
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def router_trace(step: int, layer: Any, choices: list[list[Any]], rank: int = 0, **more: Any) -> dict[str, Any]:
    """A line of Megatron-LM's router trace."""
    return {
        "step": step, "stage": "pre_dispatch", "block": "decoder", "layer": layer, "rank": rank,
        "num_tokens": len(choices), "topk": len(choices[0]) if choices else 2, **more, "top_indices": choices,
    }  # fmt: skip


def tokens_per_expert(step: int, layer: int, batches: list[list[Any]], **more: Any) -> dict[str, Any]:
    """A line of Megatron-LM's tokens per expert."""
    return {"iter": step, "block": "decoder", **more, "layer": layer, "tpe": batches}


def npy(array: Any) -> bytes:
    """A file of NumPy, objects and all."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def pt(document: Any) -> bytes:
    """A file of torch."""
    file = io.BytesIO()
    torch.save(document, file)
    return file.getvalue()


def logical(*count: Any, **kind: Any) -> bytes:
    """A file of SGLang's recorder."""
    return pt({"logical_count": torch.tensor(count, **kind)})


def line(document: Any) -> bytes:
    """A line of JSON."""
    return json.dumps(document).encode() + b"\n"


def routed(choices: Any) -> bytes:
    """A response of vLLM's server."""
    return line({"choices": [{"routed_experts": choices}]})


def parquet(**columns: Any) -> bytes:
    """A table of one row with other columns."""
    file = io.BytesIO()
    pd.DataFrame({"step": [1], "layer": [0], "expert": [0], "tokens": [1]} | columns).to_parquet(file)
    return file.getvalue()
