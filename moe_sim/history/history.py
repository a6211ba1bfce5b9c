"""The history of a run: one append-only row per step, and the changed knobs.

L layers, E experts.
"""

from __future__ import annotations

import copy
from textwrap import indent
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_sim.config.errors import UnknownName
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.suggestions import unknown
from moe_sim.config.words import plural
from moe_sim.history.column_meanings import described
from moe_sim.history.columns import (
    BY_LAYER,
    INTEGERS,
    OF_LAYERS,
    PER_CHOICE,
    PER_EXPERT,
    SCALARS,
    StepRecord,
    column_positions,
    read_only,
    row_width,
)
from moe_sim.history.layer import Layer

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from moe_sim.charts.palette import Theme


SHOWN = ("task_loss", "balance_loss", "imbalance_ratio", "dead_experts")
"""Columns whose newest values stand for a run."""
FIRST_ROOM = 16
"""Rows that have room before the first step. The room doubles as it fills up; many runs never train."""


class History:
    """The columns of a run. One thread appends; any thread may read at any time.

    Readers need no lock: a row counts only once it is complete (`len` grows last), and the old table stays valid when
    a larger one replaces it.
    """

    def __init__(self, config: RunConfig) -> None:
        self.initial_config = config
        self.events: tuple[Event, ...] = ()
        self.own_parts: dict[str, str] = {}
        """The classes of the `balancing` and the `task` that its user has given the run and its configuration does not
        name."""
        self._length = 0
        shape = (config.num_layers, config.num_experts)
        self._positions = column_positions(*shape)
        self._table = np.empty((FIRST_ROOM, row_width(*shape)))

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        config = self.initial_config
        shape = f"{plural(self.num_layers, 'layer')} of {plural(config.num_experts, 'expert')}"
        newest = ", ".join(f"{name} {self.last(name):.4g}" for name in SHOWN) if self._length else "no numbers yet"
        return f"<History: {plural(self._length, 'step')}, {shape}; {newest}>"

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the columns, with the room they have to grow."""
        return self._table.nbytes

    def newest(self) -> StepRecord:
        """The record of the newest step.

        Raises:
            IndexError: before the first step.
        """
        if not self._length:
            raise IndexError("there is no step yet")
        newest = self.until(self._length)
        numbers: dict[str, Any] = {name: newest.last(name).item() for name in SCALARS}
        for name in INTEGERS:
            numbers[name] = int(numbers[name])
        arrays: dict[str, Any] = {name: newest.last(name).copy() for name in PER_EXPERT + PER_CHOICE}
        return StepRecord(**numbers, **arrays)

    def rows(self, start: int = 0) -> np.ndarray:
        """(n, width) all columns of the steps after `start`, side by side: a copy for another history's `extend`."""
        return self._table[start : self._length].copy()

    def extend(self, rows: np.ndarray) -> None:
        """Appends steps in the form of `rows`."""
        first = self._reserve(len(rows))
        self._table[first : first + len(rows)] = rows
        self._length = first + len(rows)

    def _reserve(self, rows: int) -> int:
        """Makes room for this many rows and returns the index of the first."""
        while self._length + rows > len(self._table):
            self._table = np.concatenate([self._table, np.empty_like(self._table)])
        return self._length

    def until(self, length: int) -> History:
        """Returns a snapshot of the first `length` steps and the changes before them. It shares this history's columns
        and does not grow with it."""
        part = copy.copy(self)
        part._length = min(length, part._length)
        part.events = tuple(event for event in self.events if event.step < length)
        return part

    def record_event(self, event: Event) -> None:
        """Records changed knobs. Changes at the same step are one event."""
        before = self.events
        if before and before[-1].step == event.step:
            event = Event(event.step, {**before[-1].changes, **event.changes})
            before = before[:-1]
        self.events = (*before, event)

    @property
    def num_layers(self) -> int:
        """L."""
        return self.initial_config.num_layers

    def layer(self, index: int | None = None) -> Layer:
        """One layer, counted from 0, or all layers in their mean.

        Raises:
            IndexError: if there is no such layer.
        """
        if index is not None and not 0 <= index < self.num_layers:
            raise IndexError(f"there is no layer {index}: layers are counted from 0 to {self.num_layers - 1}")
        return Layer(self, index)

    def most_uneven_layer(self) -> int:
        """The layer in which the busiest expert has the largest smoothed load; the first one before any step."""
        return int(self.last("smoothed_load").max(1).argmax())

    def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` of a column: (n,) for a scalar, (n, L, E) for a per-expert and (n, L, 8) for a
        per-choice quantity. A read-only view, not a copy.

        Raises:
            UnknownName: with a sentence, if there is no such column.
        """
        length = self._length
        rows = self._table[start : length if stop is None else min(stop, length), self._positions[name]]
        return read_only(self._in_layers(name, rows))

    def by_layer(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(n, L) rows of a scalar that each layer has.

        Raises:
            UnknownName: with a sentence, if there is no such column.
        """
        if name not in OF_LAYERS:
            raise UnknownName(unknown("scalar of each layer", name, OF_LAYERS))
        if self.num_layers == 1:
            return self.column(name, start, stop)[:, None]
        return self.column(name + BY_LAYER, start, stop)

    def last(self, name: str) -> np.ndarray:
        """The newest value of a column, a scalar, (L, E) or (L, 8), read-only. NaN before the first step."""
        length, position = self._length, self._positions[name]
        newest = self._table[length - 1, position] if length else np.full(self._table[0, position].shape, np.nan)[()]
        return read_only(self._in_layers(name, newest)) if newest.ndim else newest

    def _in_layers(self, name: str, values: np.ndarray) -> np.ndarray:
        """(..., L · E) values of a per-expert column → (..., L, E), and so on; scalars as they are."""
        if name not in PER_EXPERT + PER_CHOICE:
            return values
        *leading, width = values.shape
        return values.reshape(*leading, self.num_layers, width // self.num_layers)

    def config_at(self, step: int) -> RunConfig:
        """The configuration in force at step `step`, 1 for the first."""
        changes = {name: value for event in self.events if event.step < step for name, value in event.changes.items()}
        return self.initial_config.replace(**changes)

    def knob(self, name: str) -> np.ndarray:
        """(n,) the value of a live knob at each step; NaN for a limit and “off” for a swap that is off."""
        off = "off" if KNOBS[name].kind is str else np.nan
        length, values, starts = self._length, [getattr(self.initial_config, name)], [0]
        for event in self.events:
            if name in event.changes:
                values.append(event.changes[name])
                starts.append(min(event.step, length))
        return np.repeat([off if value is None else value for value in values], np.diff([*starts, length]))

    def plot(self, name: str, layer: int | None = None, theme: Theme = "light") -> go.Figure:
        """Draws a chart of the Live page, such as `utilization`, or any column over the steps, such as `load`.

        Charts count experts from 1. Those of the held-out tokens' routing, such as `routing_map`, are `Trainer.plot`'s.

        Args:
            name: of a chart or a column; `moe_sim.plot` says which.
            layer: counted from 0; None for the mean of all layers.
            theme: light or dark.

        Raises:
            UnknownName: with a sentence, if there is no such chart or column.
            MissingPackage: without plotly.
        """
        import moe_sim  # charts stand above histories: the package hands on what draws

        return moe_sim.plot(self, name, layer, theme)

    def to_frame(self, tidy: bool = False) -> pd.DataFrame:
        """The columns as a table: every scalar of `StepRecord`, `load_0` … for the per-expert and per-choice columns,
        and the live knobs in force (NaN for a capacity factor, “off” for a swap that is off). With several layers,
        `load_1_0` is expert 0 of layer 1, and `balance_loss_1` its load-balancing loss.

        Args:
            tidy: one row per step, layer and expert, both counted from 0, with the per-expert columns; otherwise one
                row per step.
        """
        import pandas as pd  # takes two seconds to load, and live pages do not need it

        length = self._length
        if tidy:
            return pd.DataFrame(self._tidy(length))
        data: dict[str, Any] = {name: self.column(name, stop=length).copy() for name in SCALARS}
        for name in INTEGERS:
            data[name] = data[name].astype(np.int64)
        layers = range(self.num_layers)
        if len(layers) > 1:
            for name in OF_LAYERS:
                values = self.by_layer(name, stop=length)
                data.update({f"{name}_{layer}": values[:, layer].copy() for layer in layers})
        for name in PER_EXPERT + PER_CHOICE:
            values = self.column(name, stop=length)
            for layer in layers:
                of_layer = name if len(layers) == 1 else f"{name}_{layer}"
                data.update({f"{of_layer}_{i}": values[:, layer, i].copy() for i in range(values.shape[2])})
        for name, knob in KNOBS.items():
            if knob.live:
                data[name] = self.knob(name)[:length]
        return pd.DataFrame(data)

    def _tidy(self, length: int) -> dict[str, np.ndarray]:
        """The columns of a table with one row per step, layer and expert, layer by layer."""
        layers, experts = self.num_layers, self.initial_config.num_experts
        steps = self.column("step", stop=length).astype(np.int64)
        data = {
            "step": np.tile(np.repeat(steps, experts), layers),
            "layer": np.repeat(np.arange(layers), length * experts),
            "expert": np.tile(np.arange(experts), layers * length),
        }
        return data | {name: self.column(name, stop=length).swapaxes(0, 1).ravel() for name in PER_EXPERT}


History.__doc__ = f"{History.__doc__}\n    Its columns:\n\n{indent(described(['run']), '    ')}\n"  # what help() shows
