"""Traces with everything that a chart can show, and what they should show by the definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moe_sim.history.trace import TraceHistory, open_trace
from moe_sim.history.trace_format import Routed, Setting, TracedLayer, TraceHeader, TraceRecord
from moe_sim.history.trace_writer import TraceWriter


@dataclass
class Drawn:
    """A trace, and the counts that were written to it."""

    history: TraceHistory
    experts: tuple[int, ...]
    counts: list[np.ndarray] = field(default_factory=list)
    """Of each record, (C,)."""
    importance: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)
    """Of each record, (G, C)."""
    evaluations: list[np.ndarray] = field(default_factory=list)

    def cells(self, layer: int) -> slice:
        """Where the experts of a layer are."""
        begin = sum(self.experts[:layer])
        return slice(begin, begin + self.experts[layer])

    def loads(self, layer: int) -> np.ndarray:
        """(n, E) shares of the token choices."""
        counts = np.array([one[self.cells(layer)] for one in self.counts], float)
        return counts / counts.sum(1, keepdims=True)

    def smoothed(self, layer: int) -> np.ndarray:
        """(n, E) the weighted mean of all records so far, of weight (1 − 1/20)^age each."""
        loads = self.loads(layer)
        return np.stack([weighted_mean(loads[: row + 1]) for row in range(len(loads))])


def weighted_mean(values: np.ndarray) -> np.ndarray:
    """The mean along the first axis, of weight 0.95^age."""
    weights = 0.95 ** np.arange(len(values))[::-1]
    return np.tensordot(weights / weights.sum(), values, 1)


def draw_trace(
    folder: Path, experts: Sequence[int] = (4, 3), records: int = 30, *, groups: Sequence[str] = ("code", "prose"),
    names: Sequence[str] | None = None, numbers: Mapping[str, Sequence[float]] | None = None, plain: bool = False,
    settings: dict[str, Setting] | None = None, model: str = "Mixtral", seed: int = 0,
) -> Drawn:  # fmt: skip
    """A trace of random counts, k = 1. Unless `plain`, routers offer all, and every tenth record has an evaluation.

    The last expert of each layer gets no tokens, so that it is dead.
    """
    rng, cells = np.random.default_rng(seed), sum(experts)
    names = names or [f"model.layers.{index}.mlp" for index in range(len(experts))]
    layers = tuple(TracedLayer(name, count, "logits") for name, count in zip(names, experts, strict=True))
    header = TraceHeader(layers, model, "frame 1.0", settings or {}, () if plain else tuple(groups))
    last = np.cumsum(experts) - 1
    drawn = Drawn(None, tuple(experts))  # type: ignore[arg-type]
    with TraceWriter(folder, header) as writer:
        for row in range(records):
            by_group = rng.integers(1, 200, (max(1, len(groups)), cells))
            by_group[:, last] = 0
            counts = by_group.sum(0)
            tokens = np.add.reduceat(counts, header.offsets[:-1])
            shares = rng.random(cells).astype(np.float32)
            drawn.counts.append(counts)
            routed = Routed(tokens, counts)
            evaluation = None
            if not plain:
                drawn.importance.append(shares)
                entropy = rng.random(len(experts))
                routed = Routed(tokens, counts, shares, entropy, 3 * entropy, 9 * entropy, by_group if groups else None)
                drawn.groups.append(by_group)
                if row % 10 == 0:
                    evaluated = rng.integers(1, 9, cells)
                    drawn.evaluations.append(evaluated)
                    evaluation = Routed(np.add.reduceat(evaluated, header.offsets[:-1]), evaluated)
            logged = {name: float(values[row]) for name, values in (numbers or {}).items()}
            writer.write(TraceRecord(row + 1, routed, evaluation, logged))
    drawn.history = open_trace(folder)
    return drawn
