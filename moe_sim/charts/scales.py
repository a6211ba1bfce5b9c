"""Axes that also show what a log scale cannot: 0 stands left of the smallest number, ∞ beyond the largest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.palette import Palette

LOG_FROM = 8.0
"""Knob values whose largest is at least this many times the smallest are drawn on a log axis."""
MOST_TICKS = 7
PAD = 0.05
GAP = 0.3
"""The least distance of 0 and ∞ from the numbers, in decades."""


@dataclass(frozen=True)
class Scale:
    """The positions of numbers on one axis. A linear axis leaves out ∞, like NaN."""

    low: float
    high: float
    log: bool
    zero: float | None = None
    """The position of 0 on a log axis; None if no value is 0."""
    infinity: float | None = None
    """The position of ∞; None if no value is infinite."""

    def place(self, values: Iterable[float]) -> np.ndarray:
        """(n,) the position of each value, NaN if it has none."""
        values = np.asarray(list(values), dtype=float)
        placed = np.where(np.isfinite(values), values, np.nan)
        if self.log:
            placed[values == 0] = np.nan if self.zero is None else self.zero
            placed[values < 0] = np.nan
            placed[values == math.inf] = np.nan if self.infinity is None else self.infinity
        return placed

    def clip(self, values: Iterable[float]) -> np.ndarray:
        """(n,) the same for the edges of a band, clipped to the ends of the axis."""
        return np.clip(np.asarray(list(values), dtype=float), *self._ends())

    def _ends(self) -> tuple[float, float]:
        low, high = (self.zero or self.low), (self.infinity or self.high)
        if self.log:
            margin = max(PAD * math.log10(high / low), PAD)
            return low / 10**margin, high * 10**margin
        margin = PAD * (high - low) or 0.05 * abs(high) or 0.5
        return low - margin, high + margin

    def axis(self, title: str, values: Iterable[float] = ()) -> dict[str, Any]:
        """The Plotly axis; if `values` are few, they are its ticks."""
        ends = self._ends()
        ticks = sorted({value for value in values if math.isfinite(value) and (value > 0 or not self.log)})
        fits = 0 < len(ticks) <= MOST_TICKS
        if not self.log:
            return dict(title=title, range=list(ends)) | (dict(tickvals=ticks) if fits else {})
        texts = {tick: f"{tick:,.6g}" for tick in (ticks if fits else _round_numbers(self.low, self.high))}
        texts |= {place: word for place, word in ((self.zero, "0"), (self.infinity, "∞")) if place is not None}
        return dict(
            title=f"{title} (log)", type="log", range=[math.log10(end) for end in ends],
            tickvals=list(texts), ticktext=list(texts.values()),
        )  # fmt: skip

    def mark_breaks(self, figure: go.Figure, palette: Palette, axis: str) -> None:
        """Draw a dotted line across `axis` ("x" or "y") between the numbers and 0, and between them and ∞."""
        add = figure.add_vline if axis == "x" else figure.add_hline
        for place, edge in ((self.zero, self.low), (self.infinity, self.high)):
            if place is not None:
                add(math.sqrt(place * edge), line=dict(color=palette.muted, width=1, dash="dot"), layer="below")


def scale_for(values: Iterable[float], *, log: bool) -> Scale:
    """The scale that shows all these values."""
    values = np.asarray(list(values), dtype=float)
    usable = values[np.isfinite(values) & ((values > 0) | (not log))]
    low, high = (float(usable.min()), float(usable.max())) if len(usable) else (1.0, 1.0)
    if not log:
        return Scale(low, high, log=False)
    step = 10 ** max(GAP, 0.1 * math.log10(high / low))
    zero = low / step if (values == 0).any() else None
    infinity = high * step if (values == math.inf).any() else None
    return Scale(low, high, True, zero, infinity)


def knob_scale(values: Iterable[float]) -> Scale:
    """The scale of a knob's values: logarithmic if they span a wide range."""
    values = np.asarray(list(values), dtype=float)
    positive = values[values > 0]
    spans_much = len(positive) > 0 and positive.max() / positive.min() >= LOG_FROM
    return scale_for(values, log=bool(spans_much and (values >= 0).all()))


def _round_numbers(low: float, high: float) -> list[float]:
    """Powers of ten between two numbers; if there are few, also 2 and 5 times these."""
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= 3:
            step = -(-len(ticks) // MOST_TICKS)
            return ticks[::step]
    return [low, high] if high > low else [low]
