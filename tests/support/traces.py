"""Traces with a known routing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moe_sim.history.trace_format import Routed, TracedLayer, TraceHeader, TraceRecord
from moe_sim.history.trace_writer import TraceWriter

EVEN = (100, 100, 100, 100)
COLLAPSED = (394, 2, 2, 2)
UNEVEN = (190, 170, 20, 20)


def write_trace(
    folder: Path, *layers: Sequence[int], records: int = 30, model: str = "Mixtral", framework: str = "",
    **numbers: float,
) -> Path:  # fmt: skip
    """Appends records to a trace, each with these counts in each layer: k = 1, layers `block.0`, `block.1`, …

    Returns:
        The file.
    """
    names = (TracedLayer(f"block.{index}", len(counts)) for index, counts in enumerate(layers))
    counts = np.concatenate([np.asarray(one) for one in layers])
    routed = Routed(np.array([sum(one) for one in layers]), counts)
    with TraceWriter(folder, TraceHeader(tuple(names), model, framework)) as writer:
        for _ in range(records):
            writer.write(TraceRecord(writer.last_step + 1, routed, numbers=numbers))
    return folder / "trace.jsonl"
