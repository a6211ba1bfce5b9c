"""One layer of a run's history, or all layers in their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.history.columns import OF_LAYERS, PER_CHOICE, PER_EXPERT, read_only

if TYPE_CHECKING:
    from moe_sim.history.history import History


class Layer:
    """The columns of one layer: (n, E) where its run's history has (n, L, E), and its own scalars. It grows with the
    history.

    Without an index, per-expert quantities are means over the layers, as tools that lump layers together report them,
    and scalars are those of the history, of which some are the worst layer's.
    """

    def __init__(self, history: History, index: int | None) -> None:
        self.history = history
        self.index = 0 if history.num_layers == 1 else index
        """Counted from 0; None for all layers."""

    def __len__(self) -> int:
        return len(self.history)

    @property
    def initial_config(self) -> RunConfig:
        """See `History`."""
        return self.history.initial_config

    @property
    def events(self) -> tuple[Event, ...]:
        """See `History`."""
        return self.history.events

    def knob(self, name: str) -> np.ndarray:
        """See `History`."""
        return self.history.knob(name)

    def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` of a column: (n,), (n, E) or (n, 8), read-only."""
        if name in PER_EXPERT + PER_CHOICE:
            return self._mean(self.layers_of(name, start, stop))
        if name in OF_LAYERS and self.index is not None:
            return self.history.by_layer(name, start, stop)[:, self.index]
        return self.history.column(name, start, stop)

    def layers_of(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(n, l, E) or (n, l, 8), a column of each layer that this one stands for."""
        values = self.history.column(name, start, stop)
        return values if self.index is None else values[:, self.index : self.index + 1]

    def last(self, name: str) -> np.ndarray:
        """The newest value of a column, a scalar, (E,) or (8,), read-only. NaN before the first step."""
        length = len(self)
        if length:
            return self.column(name, length - 1, length)[0]
        newest = self.history.last(name)
        return newest[0] if newest.ndim else newest

    @staticmethod
    def _mean(layers: np.ndarray) -> np.ndarray:
        return layers[:, 0] if layers.shape[1] == 1 else read_only(layers.mean(1))
