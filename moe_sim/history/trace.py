"""The history of anybody's model: its routing, read from a trace that may still be growing.

n records, L layers, E experts of the largest layer, C cells: all experts of all layers. G groups of tokens.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moe_sim import metrics
from moe_sim.config.errors import UnknownName
from moe_sim.config.suggestions import did_you_mean
from moe_sim.config.words import plural, short_names
from moe_sim.history.column_meanings import COLUMN_MEANINGS
from moe_sim.history.columns import WORST, read_only
from moe_sim.history.smoothed import Smoothed
from moe_sim.history.trace_format import (
    FILE_NAME,
    MOST_NUMBERS,
    InvalidLineError,
    NotATraceError,
    Routed,
    TraceHeader,
    TraceRecord,
    is_header,
    read_header,
    read_record,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from moe_sim.charts.palette import Theme

MOST_BYTES = 2**30
"""Memory that one trace may take; a longer one is read as far as that goes."""
CHUNK = 2**22
"""Bytes read at once."""
LONGEST_LINE = 2**24
WARM_UP = 20 * metrics.SMOOTHING_HORIZON
"""Records before the first one that is asked for, from which a smoothed load is computed: what came before has a weight
of 10⁻⁹ then."""

OF_LOAD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "imbalance_ratio": metrics.imbalance_ratio,
    "max_violation": metrics.max_violation,
    "load_cv": metrics.coefficient_of_variation,
    "load_entropy": metrics.normalized_entropy,
    "efficiency": metrics.parallel_efficiency,
}
"""Scalars of each layer that follow from its load."""
SMOOTHED = ("smoothed_imbalance", "dead_experts", "busiest_share")
"""Scalars of each layer that follow from its smoothed load: max/min, the number of dead experts, the largest share."""
PER_EXPERT = ("load", "smoothed_load", "importance", "eval_load")
"""The columns with a number for each expert."""
OF_ROUTER = {"router_entropy": "entropy", "router_logit_rms": "logit_rms", "router_logit_max": "logit_max"}
"""Scalars of each layer that its router tells, and their names in the file."""
TAKEN = (
    "step", "tokens", *OF_LOAD, *SMOOTHED, *OF_ROUTER, "top_k", "balance_loss", "specialization", *PER_EXPERT
)  # fmt: skip
"""Columns whose names a logged number cannot have."""


def open_trace(path: str | os.PathLike[str]) -> TraceHistory:
    """Opens a trace that `watch` or `python -m moe_sim trace import` has written.

    Args:
        path: its folder, or the file in it.

    Returns:
        What has been recorded so far. `refresh()` reads what has been added since.

    Raises:
        NotATraceError: with a sentence, if there is none.
    """
    return TraceHistory(trace_file(path))


def trace_file(path: str | os.PathLike[str]) -> Path:
    """The file of a trace, given that or its folder."""
    given = Path(path)
    return given / FILE_NAME if given.is_dir() else given


class TraceHistory:
    """The columns of a trace, read like those of `History`. Any thread may read while one calls `refresh`.

    A record is one training step of the model, however many forward passes that took. If the same step was recorded
    again, because training went back to a checkpoint, the later account counts.

    Args:
        path: of the file.
        most_bytes: of memory. What does not fit is left unread, and `truncated` says so.
        content: of the file, if it is not on a disk.

    Raises:
        NotATraceError: with a sentence, if it is not a trace.
    """

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES, content: bytes | None = None) -> None:
        self.path = path
        self._content = content
        self.header = self._read_header()
        self.skipped = 0
        """Lines that were torn or damaged."""
        self.truncated = False
        """Whether the trace is larger than memory allows."""
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._position, self._size = 0, 0
        """How far the file has been read, and its size: where memory for more rows is needed, they tell how many."""
        self._written = 0
        self._summarized = 0
        self._length = 0
        """Complete rows. The rows up to `_written` are being read, those up to `_summarized` have what follows from the
        smoothed loads."""
        cells, layers = self.header.num_cells, len(self.header.layers)
        self._tables: dict[str, np.ndarray] = {
            "step": np.empty(64, np.int64), "tokens": np.empty((64, layers), np.int64),
            "load": np.empty((64, cells), np.uint16),
        }  # fmt: skip
        self._numbers: list[str] = []
        self._now = np.full(cells, np.nan)
        """(C,) the newest smoothed load."""
        self._evaluations: dict[int, Routed] = {}
        self._evaluates_only = True
        self._joint = Smoothed(len(self.header.groups), cells)
        self.refresh()

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        layers = plural(self.num_layers, "layer")
        return f"<TraceHistory {self.header.model or self.path.parent.name}: {plural(len(self), 'record')}, {layers}>"

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.header.layers)

    @property
    def num_experts(self) -> int:
        """E, of the layer that has most."""
        return max(layer.num_experts for layer in self.header.layers)

    @property
    def layer_names(self) -> list[str]:
        """The names of the layers' modules."""
        return [layer.name for layer in self.header.layers]

    @property
    def short_names(self) -> list[str]:
        """The names of the layers without what all of them begin and end with."""
        return short_names(self.layer_names)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of what was logged beside the routing: losses, a learning rate. `logged_` is put before the name of
        another column."""
        return tuple(self._numbers)

    @property
    def bytes_read(self) -> int:
        """How far the file has been read: it grows with everything that is new."""
        return self._position

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the columns use."""
        return sum(table[: self._written].nbytes for table in self._tables.values())

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that this trace has numbers for."""
        scalars = ["step", *self._numbers, *OF_LOAD, *SMOOTHED, "top_k"]
        scalars += [name for name in (*OF_ROUTER, "balance_loss", "specialization") if name in self._tables]
        per_expert = ["load", "smoothed_load"] + ["importance"] * ("importance" in self._tables)
        return (*scalars, *per_expert, *["eval_load"] * bool(self._evaluations))

    def has(self, name: str) -> bool:
        """Whether it has a column."""
        return name in self.columns

    def refresh(self) -> bool:
        """Reads what has been added to the file since the last time.

        Returns:
            Whether there was anything.

        Raises:
            NotATraceError: if the file is gone.
        """
        with self._lock:
            added = False
            for record in self._new_records():
                self._add(record)
                added = True
            self._summarize()
            self._length = self._written
            return added

    def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` of a column, read-only: (n,) for a scalar, the mean of the layers or, for imbalance,
        violation, dead experts, largest share and largest logit, the worst; (n, L, E) for a per-expert quantity, NaN
        beyond the experts of a layer.

        Raises:
            UnknownName: with a sentence, if the trace has no such column. It is a KeyError.
        """
        if name in PER_EXPERT:
            return self.of_layers(name, start, stop)
        if name == "step" or name in self._numbers:
            return read_only(self._rows(name, start, stop))
        values = self.by_layer(name, start, stop)
        worst = name in (*WORST, *SMOOTHED)
        return read_only(values.max(1) if worst else _mean(values, 1))

    def by_layer(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(n, L) rows of a scalar that each layer has."""
        if name in OF_LOAD:
            columns = [OF_LOAD[name](self._load(layer, start, stop)) for layer in range(self.num_layers)]
            return read_only(np.stack(columns, 1))
        if name == "top_k":
            return read_only(self.pairs(start, stop) / np.maximum(self._rows("tokens", start, stop), 1))
        self._require(name)
        return read_only(self._rows(name, start, stop))

    def of_layers(self, name: str, start: int = 0, stop: int | None = None, layer: int | None = None) -> np.ndarray:
        """(n, l, E) rows of a per-expert quantity in one layer (l = 1, E the experts of that layer), or in all, NaN
        beyond the experts of a layer."""
        self._require(name)
        read = {"load": self._load, "smoothed_load": self._smoothed_load, "importance": self._importance}
        of_layer = read.get(name, self._eval_load)
        if layer is not None:
            return read_only(of_layer(layer, start, stop)[:, None])
        parts = [of_layer(index, start, stop) for index in range(self.num_layers)]
        widest = self.num_experts
        return read_only(np.stack([_padded(part, widest) for part in parts], 1))

    def last(self, name: str) -> np.ndarray:
        """The newest value of a column: a scalar or (L, E). NaN before the first record."""
        if not self._length:
            per_expert = name in PER_EXPERT
            return np.full((self.num_layers, self.num_experts) if per_expert else (), np.nan)
        if name == "smoothed_load":
            return np.stack([_padded(self.now(layer)[None], self.num_experts)[0] for layer in range(self.num_layers)])
        return self.column(name, self._length - 1)[0]

    def pairs(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(n, L) token choices."""
        return np.add.reduceat(self._rows("load", start, stop), self.header.offsets[:-1], 1, dtype=np.int64)

    def now(self, layer: int) -> np.ndarray:
        """(E,) the newest smoothed load of a layer; NaN before the first record."""
        begin, end = self.header.offsets[layer : layer + 2]
        return read_only(self._now[begin:end])

    def smallest_share(self, layer: int) -> float:
        """The smoothed load of an expert that has not been used for 14 records is below this."""
        return self._smallest_share(layer, self._length)

    def top_k(self, layer: int) -> float:
        """Choices per token in the newest record; 1 before."""
        return float(self.by_layer("top_k", self._length - 1)[0, layer]) if self._length else 1.0

    def joint(self, layer: int) -> np.ndarray:
        """(G, E) smoothed token choices of a layer by group, as shares of all; zeros before any."""
        begin, end = self.header.offsets[layer : layer + 2]
        return self._joint.value[:, begin:end]

    def plot(self, name: str, layer: int | str | None = None, theme: Theme = "light") -> go.Figure:
        """Draws a chart of the page Your model, such as `experts_by_layer`, or any column over the steps, such as
        `load`.

        Charts count experts from 0, as the model does.

        Args:
            name: of a chart or a column; `moe_sim.plot` says which.
            layer: counted from 0, or the name of its module; None for the one with the worst verdict.
            theme: light or dark.

        Raises:
            UnknownName: with a sentence, if there is no such chart, column or layer.
            MissingPackage: without plotly.
        """
        import moe_sim  # charts stand above histories: the package hands on what draws

        return moe_sim.plot(self, name, layer, theme)

    def to_frame(self, tidy: bool = False) -> pd.DataFrame:
        """The columns as a table.

        Args:
            tidy: one row per step, layer and expert, with names in `layer`; otherwise one row per step, `load_1_0` for
                expert 0 of layer 1.
        """
        import pandas as pd

        per_expert = [name for name in PER_EXPERT if self.has(name)]
        by_layer = [name for name in self.columns if name not in ("step", *self._numbers, *per_expert)]
        steps, experts = self.column("step"), [layer.num_experts for layer in self.header.layers]
        if tidy:
            parts = []
            for index, name in enumerate(self.layer_names):
                rows = np.repeat(steps, experts[index])
                part = {"step": rows, "layer": name, "expert": np.tile(np.arange(experts[index]), len(steps))}
                part |= {column: self.of_layers(column, layer=index).ravel() for column in per_expert}
                parts.append(pd.DataFrame(part))
            return pd.concat(parts, ignore_index=True)
        data: dict[str, np.ndarray] = {name: self.column(name).copy() for name in ("step", *self._numbers)}
        for name in by_layer:
            data |= {f"{name}_{layer}": values.copy() for layer, values in enumerate(self.by_layer(name).T)}
        for name in per_expert:
            for layer in range(self.num_layers):
                values = self.of_layers(name, layer=layer)[:, 0]
                data |= {f"{name}_{layer}_{expert}": values[:, expert].copy() for expert in range(experts[layer])}
        return pd.DataFrame(data)

    # Reading

    def _read_header(self) -> TraceHeader:
        with self._opened() as file:
            line = file.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise NotATraceError(f"{self.path} is not a trace: its first line is not complete.")
        try:
            return read_header(line)
        except NotATraceError as error:
            raise NotATraceError(f"Cannot read {self.path}. {error}") from None

    def _opened(self) -> BufferedReader:
        if self._content is not None:
            return BufferedReader(BytesIO(self._content))
        try:
            return self.path.open("rb")
        except OSError as error:
            raise NotATraceError(f"Cannot read {self.path}: {(error.strerror or 'unknown error').lower()}.") from None

    def _new_records(self) -> Iterator[TraceRecord]:
        """The records of the complete lines that were not read yet. A line that cannot be read is passed over, but the
        newest one is tried again: on a network file system it may not be all there yet."""
        with self._opened() as file:
            self._size = file.seek(0, os.SEEK_END)
            if self._size < self._position:  # it was begun again
                raise NotATraceError(f"{self.path} was replaced by a shorter file.")
            file.seek(self._position)
            while not self.truncated and (chunk := file.readlines(CHUNK)):
                for index, line in enumerate(chunk):
                    if not line.endswith(b"\n"):
                        return
                    if not is_header(line):
                        try:
                            yield read_record(line, self.header)
                        except InvalidLineError:
                            if index == len(chunk) - 1 and not file.peek(1):
                                return
                            self.skipped += 1
                    self._position += len(line)
                self.truncated = self.nbytes > self._most_bytes

    def _add(self, record: TraceRecord) -> None:
        main = record.training
        if main is None and self._evaluates_only:
            main = record.evaluation
        if main is not None:
            self._evaluates_only &= record.training is None
            self._append(record.step, main)
        row = self._written - 1 if main is not None else self._row_of(record.step)
        if row is None:
            return
        if record.evaluation is not None and main is not record.evaluation:
            self._evaluations[row] = record.evaluation
        for given, value in record.numbers.items():
            name = f"logged_{given}" if given in TAKEN else given
            if name not in self._tables and len(self._numbers) < MOST_NUMBERS:
                self._numbers.append(name)
                self._tables[name] = np.full(len(self._tables["step"]), np.nan)
            if name in self._numbers:
                self._tables[name][row] = value

    def _append(self, step: int, routed: Routed) -> None:
        steps = self._tables["step"]
        if self._written and step <= steps[self._written - 1]:
            self._written = int(np.searchsorted(steps[: self._written], step))
            self._summarized = min(self._summarized, self._written)
            self._evaluations = {row: one for row, one in self._evaluations.items() if row < self._written}
        row = self._written
        if row == len(steps):
            expected = int(1.02 * row * self._size / max(1, self._position))
            rows = max(2 * row, min(expected, row * self._most_bytes // self.nbytes))
            self._tables = {name: _lengthened(table, rows) for name, table in self._tables.items()}
        if routed.counts.dtype.itemsize > self._tables["load"].dtype.itemsize:
            self._tables["load"] = self._tables["load"].astype(routed.counts.dtype)
        self._tables["step"][row], self._tables["load"][row] = step, routed.counts
        self._tables["tokens"][row] = routed.tokens
        for name in self._numbers:
            self._tables[name][row] = np.nan
        self._optional("importance", row, routed.importance)
        for name, key in OF_ROUTER.items():
            self._optional(name, row, getattr(routed, key))
        if routed.importance is not None:
            self._optional("balance_loss", row, self._balance_loss(routed))
        if routed.groups is not None:
            self._optional("specialization", row, self._specialization(routed.groups))
        self._written = row + 1

    def _optional(self, name: str, row: int, values: np.ndarray | None) -> None:
        """Keeps what not every record needs to have."""
        if values is not None and name not in self._tables:
            self._tables[name] = np.full((len(self._tables["step"]), len(values)), np.nan, np.float32)
        if name in self._tables:
            self._tables[name][row] = np.nan if values is None else values

    def _balance_loss(self, routed: Routed) -> np.ndarray:
        """(L,) E·Σ f P of each layer."""
        assert routed.importance is not None
        begin, experts = self.header.offsets[:-1], np.diff(self.header.offsets)
        pairs = np.maximum(np.add.reduceat(routed.counts, begin, dtype=np.int64), 1)
        terms = np.add.reduceat(routed.counts * routed.importance.astype(float), begin)
        return experts * terms / pairs

    def _specialization(self, groups: np.ndarray) -> np.ndarray:
        """(L,) the specialization of each layer, by the smoothed joint frequencies."""
        self._joint.update(groups / max(1, groups.sum()))
        joints = (self.joint(layer) for layer in range(self.num_layers))
        return np.array([metrics.normalized_mutual_information(one) if one.any() else np.nan for one in joints])

    def _summarize(self) -> None:
        """Fills in what follows from the smoothed loads, in the rows that do not have it yet."""
        begin, experts = self.header.offsets[:-1], np.diff(self.header.offsets)
        dead_below = np.repeat(metrics.DEAD_SHARE / experts, experts)
        for name in SMOOTHED:
            if name not in self._tables:
                self._tables[name] = np.empty((len(self._tables["step"]), self.num_layers), np.float32)
        average, first = Smoothed(self.header.num_cells), max(0, self._summarized - WARM_UP)
        nothing = np.array([self._smallest_share(layer, self._written) for layer in range(self.num_layers)])
        for row in range(first, self._written):
            load = self._now = average.update(self._shares(row))
            if row < self._summarized:
                continue
            highest, lowest = np.maximum.reduceat(load, begin), np.minimum.reduceat(load, begin)
            ratio = np.divide(highest, lowest, out=np.full(len(begin), np.inf), where=lowest > nothing)
            self._tables["smoothed_imbalance"][row], self._tables["busiest_share"][row] = ratio, highest
            self._tables["dead_experts"][row] = np.add.reduceat(load < dead_below, begin, dtype=np.int64)
        self._summarized = self._written

    def _smallest_share(self, layer: int, length: int) -> float:
        recent = slice(max(0, length - metrics.SMOOTHING_HORIZON), length)
        begin, end = self.header.offsets[layer : layer + 2]
        pairs = self._tables["load"][recent, begin:end].sum(1, dtype=np.int64)
        return metrics.one_token(max(1, int(np.median(pairs)) if len(pairs) else 1), 1) / 2

    def _row_of(self, step: int) -> int | None:
        """The row of a step that was recorded before; else the newest row, if any."""
        steps = self._tables["step"][: self._written]
        row = int(np.searchsorted(steps, step, "right")) - 1
        return row if row >= 0 else None

    # Columns

    def _require(self, name: str) -> None:
        if not self.has(name):
            others = f"; it has {', '.join(self.columns)}."
            exists = name in COLUMN_MEANINGS["trace"]  # only not in this trace
            end = others if exists else did_you_mean(name, self.columns, others)
            raise UnknownName(f"This trace has no column {name[:40]!r}{end}")

    def _rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        end = self._length if stop is None else min(stop, self._length)
        return self._tables[name][start:end]

    def _shares(self, row: int) -> np.ndarray:
        """(C,) the load of each layer, laid end to end; even where a layer routed nothing."""
        begin, experts = self.header.offsets[:-1], np.diff(self.header.offsets)
        counts = self._tables["load"][row].astype(float)
        total = np.add.reduceat(counts, begin)
        shares = counts / np.repeat(np.maximum(total, 1), experts)
        return (
            shares if total.all() else np.where(np.repeat(total, experts) > 0, shares, np.repeat(1 / experts, experts))
        )

    def _load(self, layer: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        begin, end = self.header.offsets[layer : layer + 2]
        counts = self._rows("load", start, stop)[:, begin:end].astype(float)
        total = counts.sum(1, keepdims=True)
        return np.divide(counts, total, out=np.full_like(counts, 1 / (end - begin)), where=total > 0)

    def _smoothed_load(self, layer: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        start = min(start, self._length)
        first = max(0, start - WARM_UP)
        load = self._load(layer, first, stop)
        average = Smoothed(load.shape[1])
        for row in load:
            row[:] = average.update(row)
        return load[start - first :]

    def _importance(self, layer: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        begin, end = self.header.offsets[layer : layer + 2]
        return self._rows("importance", start, stop)[:, begin:end].astype(float)

    def _eval_load(self, layer: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        begin, end = self.header.offsets[layer : layer + 2]
        last = self._length if stop is None else min(stop, self._length)
        load = np.full((max(0, last - start), end - begin), np.nan)
        for row, routed in self._evaluations.items():
            if start <= row < last:
                counts = routed.counts[begin:end].astype(float)
                load[row - start] = counts / max(1, counts.sum())
        return load


def _lengthened(table: np.ndarray, rows: int) -> np.ndarray:
    longer = np.empty((rows, *table.shape[1:]), table.dtype)
    longer[: len(table)] = table
    return longer


def _padded(values: np.ndarray, width: int) -> np.ndarray:
    missing = width - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), constant_values=np.nan) if missing else values


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is not NaN; NaN where there is nothing."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(axis) / np.where(known.any(axis), known.sum(axis), np.nan)
