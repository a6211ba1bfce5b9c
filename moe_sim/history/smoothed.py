"""Exponential moving averages of recorded quantities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from moe_sim import metrics


class Smoothed:
    """Exponential moving average with a horizon of `metrics.SMOOTHING_HORIZON` steps, bias-corrected: the first value
    counts fully, as in pandas' `ewm(alpha=1/20, adjust=True).mean()`."""

    def __init__(self, *shape: int) -> None:
        self.value = np.zeros(shape)
        self._weight: float | np.ndarray = 0.0

    @classmethod
    def stack(cls, averages: Sequence[Self]) -> Self:
        """Joins averages of one shape along their first dimension. Each keeps its own age."""
        together = cls(0)
        together.value = np.concatenate([one.value for one in averages])
        ages = np.repeat([one._weight for one in averages], len(averages[0].value))
        together._weight = ages.reshape(-1, *(together.value.ndim - 1) * (1,))
        return together

    def unstack(self, index: int, average: Self) -> None:
        """Brings an average of a stack up to date."""
        rows = len(average.value)
        first = index * rows
        average.value, average._weight = self.value[first : first + rows].copy(), float(np.ravel(self._weight)[first])
        average.value.flags.writeable = False

    def update(self, value: np.ndarray) -> np.ndarray:
        """Adds a value and returns the new average, a new read-only array."""
        keep = 1 - 1 / metrics.SMOOTHING_HORIZON
        self._weight = keep * self._weight + 1
        self.value = self.value + (value - self.value) / self._weight
        self.value.flags.writeable = False
        return self.value
