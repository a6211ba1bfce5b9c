"""Reads a sweep's table: its measures and their labels, axes, means over seeds, the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_sim.config.knobs import KNOBS
from moe_sim.config.words import value_in_words
from moe_sim.history.column_meanings import LAST_50, LAST_EVALUATION, LAST_SMOOTHED

if TYPE_CHECKING:
    import pandas as pd

Axes = Mapping[str, Sequence[Any]]
"""The values of each swept knob, in order."""


@dataclass(frozen=True)
class Measure:
    """How one of a run's final metrics is shown."""

    label: str
    note: str
    """How it was measured."""
    digits: int = 2
    factor: float = 1
    """The shown number divided by the one in the table."""
    unit: str = ""
    log: bool = False
    better_low: bool = False
    """Whether lower is always better."""

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def text(self, shown: float) -> str:
        """A shown number as text; empty for NaN."""
        if math.isnan(shown):
            return ""
        if math.isinf(shown):
            return "∞"
        if self.log:
            return f"{shown:,.0f}" if shown >= 100 else f"{shown:.3g}"
        return f"{shown:.{self.digits}f}"


MEASURES: dict[str, Measure] = {
    "task_loss": Measure("Task loss", LAST_50, 3, better_low=True),
    "eval_task_loss": Measure("Task loss, held-out", LAST_50, 3, better_low=True),
    "max_load": Measure("Largest load", LAST_SMOOTHED, 0, 100, "%", better_low=True),
    "eval_max_load": Measure("Largest load, held-out", LAST_EVALUATION, 0, 100, "%", better_low=True),
    "imbalance_ratio": Measure("Imbalance ratio max/min", LAST_SMOOTHED, log=True, better_low=True),
    "dead_experts": Measure("Dead experts", LAST_SMOOTHED, 1, better_low=True),
    "specialization": Measure("Specialization", LAST_SMOOTHED),
    "balance_loss": Measure("Load-balancing loss", LAST_50),
    "load_entropy": Measure("Load entropy", LAST_50),
    "router_entropy": Measure("Router entropy", LAST_50),
    "dropped_fraction": Measure("Dropped", LAST_50, 1, 100, "%", better_low=True),
    "unserved_fraction": Measure("Unserved tokens", LAST_50, 1, 100, "%", better_low=True),
    "first_dead_step": Measure("First dead expert at step", "over the runs in which one died", 0),
}
"""Measures by their columns."""


@dataclass(frozen=True)
class Group:
    """The runs of one combination of axis values, which differ in the seed."""

    settings: Mapping[str, Any]
    runs: pd.DataFrame

    def shown(self, name: str) -> np.ndarray:
        """(runs,) a measure in shown units; NaN where a run has none."""
        return shown(self.runs, name)

    def mean(self, name: str) -> float:
        """The mean over the runs that have the measure; NaN if none has it, ∞ if one is ∞."""
        values = self.shown(name)
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else math.nan

    def std(self, name: str) -> float:
        """Population standard deviation over the runs that have the measure; NaN if one is ∞ or none has it."""
        values = self.shown(name)
        values = values[~np.isnan(values)]
        return float(values.std()) if len(values) and np.isfinite(values).all() else math.nan


def shown(frame: pd.DataFrame, name: str) -> np.ndarray:
    """(rows,) a measure in shown units; NaN where a row has none."""
    return MEASURES[name].factor * frame[name].to_numpy(dtype=float, na_value=np.nan)


def complete(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that finished."""
    return frame[frame["status"] == "done"]


def counted(frame: pd.DataFrame) -> str:
    """The number of runs shown, and of those left out by reason, as text."""
    status = [str(word) for word in frame["status"]]
    done = status.count("done")
    words = f"{done:,} run" + "s" * (done != 1)
    others = [f"{status.count(word):,} {word}" for word in dict.fromkeys(status) if word != "done"]
    return f"{words}; left out: {', '.join(others)}" if others else words


def plain(name: str, value: Any) -> Any:
    """A cell of a knob's column as a plain Python value; None for off."""
    knob = KNOBS[name]
    missing = value is None or value != value
    return None if missing and knob.optional else knob.kind(value)


def axes_of(frame: pd.DataFrame) -> dict[str, tuple[Any, ...]]:
    """The knobs other than the seed that take several values in a table, with their sorted values."""
    axes = {}
    for name in KNOBS:
        values = {plain(name, value) for value in frame[name].unique()} if name != "seed" else set()
        if len(values) > 1:
            axes[name] = tuple(sorted(values, key=partial(_rank, name)))
    return axes


def _rank(name: str, value: Any) -> float:
    """Sort key of a knob's value; off, meaning no limit, comes last."""
    choices = KNOBS[name].choices
    if choices:
        return choices.index(value)
    if value is None:
        return math.inf
    if KNOBS[name].kind is str:
        first, _, second = value.partition("-")
        return 100 * int(first) + int(second) if second else int(value, 16)  # a pair of experts, or a text's key
    return float(value)


def groups(frame: pd.DataFrame, axes: Axes) -> list[Group]:
    """The runs of a table by combination, in the order of the axes; combinations without a run are omitted."""
    rows: dict[tuple[Any, ...], list[int]] = {}
    columns = [[plain(name, value) for value in frame[name]] for name in axes]
    for row, values in enumerate(zip(*columns, strict=True) if columns else [()] * len(frame)):
        rows.setdefault(values, []).append(row)
    places = [{value: place for place, value in enumerate(values)} for values in axes.values()]
    known = [key for key in rows if all(value in place for value, place in zip(key, places, strict=True))]
    known.sort(key=lambda key: [place[value] for value, place in zip(key, places, strict=True)])
    return [Group(dict(zip(axes, key, strict=True)), frame.iloc[rows[key]]) for key in known]


def restricted(frame: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """The rows in which each of these knobs has the given value."""
    keep = np.ones(len(frame), dtype=bool)
    for name, value in values.items():
        keep &= np.array([plain(name, cell) == value for cell in frame[name]], dtype=bool)
    return frame[keep]


def in_words(values: Mapping[str, Any]) -> str:
    """A combination as short text: `α 0.03, experts 8`."""
    return ", ".join(f"{short_label(name)} {value_in_words(value)}" for name, value in values.items())


def short_label(name: str) -> str:
    """A knob's name for tight spaces."""
    return {"aux_loss_coef": "α", "num_experts": "experts", "top_k": "k"}.get(name, KNOBS[name].label.lower())


def pareto_front(first: np.ndarray, second: np.ndarray) -> list[int]:
    """The points that no other point beats, that is, no other is at most as large in both and smaller in one.

    Args:
        first, second: (n,) coordinates, ∞ allowed; a point with NaN is never on the front.

    Returns:
        Their indices, sorted by `first`, then by `second`.
    """
    front: list[int] = []
    lowest = None
    for index in np.lexsort((second, first)):
        here = float(first[index]), float(second[index])
        if math.isnan(here[0]) or math.isnan(here[1]):
            continue
        if lowest is None or here[1] < lowest[1] or here == lowest:
            lowest = here
            front.append(int(index))
    return front
