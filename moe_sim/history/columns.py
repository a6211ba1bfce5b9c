"""The columns of a run's history, told by the types of `StepRecord`'s fields.

L layers, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, get_type_hints

import numpy as np

COARSE = 10
"""Steps per block of the coarse tables; inference is evaluated after the last step of each block."""
MOST_CHOICES = 8
"""The largest top-k."""

PerExpert = Annotated[np.ndarray, "(L, E)"]
PerChoice = Annotated[np.ndarray, "(L, 8)"]
"""The two shapes of an array in a record; everything else in it is a number."""
Mean = Annotated[float, "the mean over the layers"]
Worst = Annotated[float, "the largest of the layers"]
WorstCount = Annotated[int, "the largest of the layers"]
"""Numbers that each layer has: what a record and a column hold of them. Other numbers belong to the whole run."""


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One training step, in plain numbers and read-only NumPy arrays. Shares are of the T·K (token, choice) pairs of a
    layer. `History.layer` has the numbers of one layer.

    Two records are equal if all their numbers are; NaN equals NaN.
    """

    step: int
    """1 for the first step."""
    task_loss: float
    """Cross-entropy, nats."""
    balance_loss: Mean
    """Switch's E·Σ f P, `per_choice`, whatever is optimized."""
    auxiliary_loss: Mean
    """The balancing loss that α weighs, before weighting."""
    z_loss: Mean
    imbalance_ratio: Worst
    max_violation: Worst
    load_cv: Mean
    load_entropy: Mean
    dead_experts: WorstCount
    """From the smoothed load."""
    dropped_fraction: Mean
    """Share of the pairs that capacity drops."""
    unserved_fraction: Mean
    """Share of the tokens that no expert computes: all their pairs were dropped, or no expert chose them."""
    efficiency: Mean
    specialization: Mean
    """From the smoothed joint frequencies of group and first choice."""
    router_entropy: Mean
    """Mean over tokens of −Σ p ln p / ln E: 1 if the router has no preference."""
    router_logit_rms: Mean
    """Root mean square of the router's logits, without Gaussian noise."""
    router_logit_max: Worst
    """Largest absolute logit."""
    router_noise_std: Mean
    """Mean σ of the Gaussian noise in the logits."""
    router_task_gradient: Mean
    """Euclidean norm of the task loss's gradient on the router's weights."""
    router_balance_gradient: Mean
    """The same for the balancing loss, before weighting; 0 if the mechanism has no loss."""
    router_gradient_cosine: Mean
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
    """The share of tokens whose first, second … choice capacity drops; 0 beyond K, except under expert choice."""

    def __post_init__(self) -> None:
        for name in PER_EXPERT + PER_CHOICE:
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepRecord):
            return NotImplemented
        names = SCALARS + PER_EXPERT + PER_CHOICE
        return all(np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in names)

    def __hash__(self) -> int:
        return hash(self.step)


def read_only(values: np.ndarray) -> np.ndarray:
    """A view through which nothing can be changed."""
    view = values.view()
    view.flags.writeable = False
    return view


_SHAPES = get_type_hints(StepRecord, include_extras=True)
PER_EXPERT = tuple(name for name, shape in _SHAPES.items() if shape == PerExpert)
PER_CHOICE = tuple(name for name, shape in _SHAPES.items() if shape == PerChoice)
SCALARS = tuple(name for name in _SHAPES if name not in PER_EXPERT + PER_CHOICE)
INTEGERS = tuple(name for name, shape in _SHAPES.items() if shape in (int, WorstCount))
WORST = tuple(name for name, shape in _SHAPES.items() if shape in (Worst, WorstCount))
OF_LAYERS = tuple(name for name, shape in _SHAPES.items() if shape in (Mean, Worst, WorstCount))
"""The scalars that each layer has."""
BY_LAYER = "_by_layer"
"""With several layers, `z_loss_by_layer` is the column of all layers' `z_loss`, and so on."""


@lru_cache(maxsize=256)
def column_positions(layers: int, num_experts: int) -> dict[str, int | slice]:
    """The position of each column of `StepRecord` in a row of `History.rows`, with several layers also those of each
    layer's scalars."""
    widths = {name + BY_LAYER: layers for name in OF_LAYERS if layers > 1}
    widths |= dict.fromkeys(PER_EXPERT, layers * num_experts) | dict.fromkeys(PER_CHOICE, layers * MOST_CHOICES)
    positions: dict[str, int | slice] = {name: left for left, name in enumerate(SCALARS)}
    left = len(SCALARS)
    for name, width in widths.items():
        positions[name] = slice(left, left + width)
        left += width
    return positions


def row_width(layers: int, num_experts: int) -> int:
    """The number of columns in a row of `History.rows`."""
    by_layer = len(OF_LAYERS) * layers if layers > 1 else 0
    return len(SCALARS) + by_layer + layers * (len(PER_EXPERT) * num_experts + len(PER_CHOICE) * MOST_CHOICES)
