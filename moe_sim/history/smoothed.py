"""Exponential moving averages of recorded quantities."""

from __future__ import annotations

import numpy as np

from moe_sim import metrics


class Smoothed:
    """Exponential moving average with a horizon of `metrics.SMOOTHING_HORIZON` steps, bias-corrected: the first value
    counts fully, as in pandas' `ewm(alpha=1/20, adjust=True).mean()`."""

    def __init__(self, size: int) -> None:
        self.value = np.zeros(size)
        self._weight = 0.0

    def update(self, value: np.ndarray) -> np.ndarray:
        """Adds a value and returns the new average, a new read-only array."""
        keep = 1 - 1 / metrics.SMOOTHING_HORIZON
        self._weight = keep * self._weight + 1
        self.value = self.value + (value - self.value) / self._weight
        self.value.flags.writeable = False
        return self.value
