"""The history of a run: one append-only row per step, and the changed knobs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig

if TYPE_CHECKING:
    import pandas as pd

COARSE = 10
"""Steps per block of the coarse tables; inference is evaluated after the last step of each block."""
MOST_CHOICES = 8
"""The largest top-k."""


PerExpert = Annotated[np.ndarray, "(E,)"]
PerChoice = Annotated[np.ndarray, "(8,)"]
"""The two shapes of an array in a record; everything else in it is a number."""


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One training step, in plain numbers and read-only NumPy arrays. Shares are of the T·K (token, choice) pairs.

    Two records are equal if all their numbers are; NaN equals NaN.
    """

    step: int
    """1 for the first step."""
    task_loss: float
    """Cross-entropy, nats."""
    balance_loss: float
    """Switch's E·Σ f P, `per_choice`, whatever is optimized."""
    auxiliary_loss: float
    """The balancing loss that α weighs, before weighting."""
    z_loss: float
    imbalance_ratio: float
    max_violation: float
    load_cv: float
    load_entropy: float
    dead_experts: int
    """From the smoothed load."""
    dropped_fraction: float
    """Share of the pairs that capacity drops."""
    unserved_fraction: float
    """Share of the tokens that no expert computes: all their pairs were dropped, or no expert chose them."""
    efficiency: float
    specialization: float
    """From the smoothed joint frequencies of group and first choice."""
    router_entropy: float
    """Mean over tokens of −Σ p ln p / ln E: 1 if the router has no preference."""
    router_logit_rms: float
    """Root mean square of the router's logits, without Gaussian noise."""
    router_logit_max: float
    """Largest absolute logit."""
    router_noise_std: float
    """Mean σ of the Gaussian noise in the logits."""
    router_task_gradient: float
    """Euclidean norm of the task loss's gradient on the router's weights."""
    router_balance_gradient: float
    """The same for the balancing loss, before weighting; 0 if the mechanism has no loss."""
    router_gradient_cosine: float
    """Cosine between these two gradients; NaN if either is 0."""
    eval_task_loss: float
    """Of held-out tokens in inference, after the step's update; NaN except every 10th step."""
    load: PerExpert
    first_load: PerExpert
    """Share of first choices sent to each expert."""
    importance: PerExpert
    processed: PerExpert
    """Share of pairs that each expert computed, after capacity."""
    preferred_load: PerExpert
    """The load of the router's own top-k, without Gaussian noise and without the mechanism."""
    selection_bias: PerExpert
    """Added to each expert's scores for selection; 0 except with the bias mechanism."""
    grad_norm: PerExpert
    """Euclidean norm of the total loss's gradient on each expert's weights."""
    weight_change: PerExpert
    """‖Δw‖ / ‖w‖ of each expert's weights in this step."""
    weight_distance: PerExpert
    """‖w − w₀‖ / ‖w₀‖, the distance of each expert's weights from their initial values."""
    smoothed_load: PerExpert
    """Exponential moving average of `load`, horizon 20 steps, bias-corrected."""
    eval_load: PerExpert
    """Load of held-out tokens in inference, after the step's update; NaN except every 10th step."""
    dropped_by_choice: PerChoice
    """(8,) share of tokens whose first, second … choice capacity drops; 0 beyond K, except under expert choice."""

    def __post_init__(self) -> None:
        for name in PER_EXPERT + PER_CHOICE:
            object.__setattr__(self, name, _read_only(getattr(self, name)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepRecord):
            return NotImplemented
        names = SCALARS + PER_EXPERT + PER_CHOICE
        return all(np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in names)

    def __hash__(self) -> int:
        return hash(self.step)


def _read_only(values: np.ndarray) -> np.ndarray:
    """A view through which nothing can be changed."""
    view = values.view()
    view.flags.writeable = False
    return view


_SHAPES = get_type_hints(StepRecord, include_extras=True)
SCALARS = tuple(name for name, shape in _SHAPES.items() if shape in (int, float))
INTEGERS = tuple(name for name, shape in _SHAPES.items() if shape is int)
PER_EXPERT = tuple(name for name, shape in _SHAPES.items() if shape == PerExpert)
PER_CHOICE = tuple(name for name, shape in _SHAPES.items() if shape == PerChoice)


@lru_cache(maxsize=64)
def column_positions(num_experts: int) -> dict[str, int | slice]:
    """The position of each column of `StepRecord` in a row of `History.rows`."""
    widths = dict.fromkeys(PER_EXPERT, num_experts) | dict.fromkeys(PER_CHOICE, MOST_CHOICES)
    positions: dict[str, int | slice] = {name: left for left, name in enumerate(SCALARS)}
    left = len(SCALARS)
    for name, width in widths.items():
        positions[name] = slice(left, left + width)
        left += width
    return positions


def row_width(num_experts: int) -> int:
    """The number of columns in a row of `History.rows`."""
    return len(SCALARS) + len(PER_EXPERT) * num_experts + len(PER_CHOICE) * MOST_CHOICES


class History:
    """The columns of a run. One thread appends; any thread may read at any time.

    Readers need no lock: a row counts only once it is complete (`len` grows last), and the old table stays valid when
    a larger one replaces it.
    """

    def __init__(self, config: RunConfig) -> None:
        self.initial_config = config
        self.events: tuple[Event, ...] = ()
        self._length = 0
        self._table = np.empty((256, row_width(config.num_experts)))

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the columns, with the room they have to grow."""
        return self._table.nbytes

    def append(self, record: StepRecord) -> None:
        """Appends the next step."""
        row = self._reserve(1)
        for name, position in column_positions(self.initial_config.num_experts).items():
            self._table[row, position] = getattr(record, name)
        self._length = row + 1

    def newest(self) -> StepRecord:
        """The record of the newest step.

        Raises:
            IndexError: before the first step.
        """
        if not self._length:
            raise IndexError("there is no step yet")
        row = self._table[self._length - 1].copy()
        positions = column_positions(self.initial_config.num_experts)
        numbers = {name: row[positions[name]].item() for name in SCALARS}
        for name in INTEGERS:
            numbers[name] = int(numbers[name])
        return StepRecord(**numbers, **{name: row[positions[name]] for name in PER_EXPERT + PER_CHOICE})

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

    def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` of a column: (n,) for a scalar, (n, E) for a per-expert and (n, 8) for a per-choice
        quantity. A read-only view, not a copy."""
        length = self._length
        position = column_positions(self.initial_config.num_experts)[name]
        return _read_only(self._table[start : length if stop is None else min(stop, length), position])

    def last(self, name: str) -> np.ndarray:
        """The newest value of a column, a scalar or (E,), read-only. NaN before the first step."""
        length = self._length
        position = column_positions(self.initial_config.num_experts)[name]
        if not length:
            return np.full(self._table[0, position].shape, np.nan)[()]
        newest = self._table[length - 1, position]
        return _read_only(newest) if newest.ndim else newest

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

    def to_frame(self) -> pd.DataFrame:
        """One row per step: every scalar of `StepRecord`, `load_0` … for the per-expert and per-choice columns, and the
        live knobs in force (NaN for a capacity factor, “off” for a swap that is off)."""
        import pandas as pd  # takes two seconds to load, and live pages do not need it

        length = self._length
        data: dict[str, Any] = {name: self.column(name, stop=length).copy() for name in SCALARS}
        for name in INTEGERS:
            data[name] = data[name].astype(np.int64)
        for name in PER_EXPERT + PER_CHOICE:
            values = self.column(name, stop=length)
            data.update({f"{name}_{i}": values[:, i].copy() for i in range(values.shape[1])})
        for name, knob in KNOBS.items():
            if knob.live:
                data[name] = self.knob(name)[:length]
        return pd.DataFrame(data)
