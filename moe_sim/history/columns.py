"""The columns of a run's history, told by the types of `StepRecord`'s fields.

L layers, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, get_type_hints

import numpy as np

from moe_sim.config.suggestions import ByName
from moe_sim.metrics import SMOOTHING_HORIZON

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

EACH = "each step"
SMOOTHED = f"exponential moving average over {SMOOTHING_HORIZON} steps, bias-corrected"
TENTH = f"every {COARSE}th step; NaN at the others"
"""Over which steps a column is taken."""
PAIRS = "share of the (token, choice) pairs"


def about(meaning: str, unit: str = "", over: str = EACH) -> dict[str, str]:
    """What a column means: see `moe_sim.history.column_meanings`."""
    return {"meaning": meaning, "unit": unit, "over": over}


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One training step, in plain numbers and read-only NumPy arrays. `History.layer` has the numbers of one layer.

    Two records are equal if all their numbers are; NaN equals NaN.
    """

    step: int = field(metadata=about("1 for the first step"))
    task_loss: float = field(metadata=about("Cross-entropy", "nats"))
    balance_loss: Mean = field(
        metadata=about(
            "Switch's E·Σ f·P, `per_choice`, whatever is optimized: 1 if even, E/K if K experts get everything"
        )
    )
    auxiliary_loss: Mean = field(
        metadata=about("The balancing loss that α weighs, before weighting; 0 if the mechanism has none")
    )
    z_loss: Mean = field(metadata=about("Router z-loss, the mean square of the logits' log-sum-exp, before weighting"))
    imbalance_ratio: Worst = field(metadata=about("Largest / smallest load; ∞ if an expert got nothing"))
    max_violation: Worst = field(metadata=about("Largest load / mean load − 1: 0 is balance"))
    load_cv: Mean = field(metadata=about("Coefficient of variation of the load, std / mean: 0 is balance"))
    load_entropy: Mean = field(
        metadata=about("−Σ f ln f / ln E of the load: 1 is balance, 0 one expert for everything")
    )
    dead_experts: WorstCount = field(
        metadata=about("Experts whose smoothed load is below a tenth of 1/E", "experts", SMOOTHED)
    )
    dropped_fraction: Mean = field(metadata=about("Pairs that capacity drops", PAIRS))
    unserved_fraction: Mean = field(
        metadata=about(
            "Tokens that no expert computes: all their pairs were dropped, or no expert chose them", "share of tokens"
        )
    )
    efficiency: Mean = field(
        metadata=about("Mean / largest load: the device time in use if every expert has its own device", "share")
    )
    specialization: Mean = field(
        metadata=about(
            "Normalized mutual information of the tokens' groups and first choices: 1 if the expert tells the group",
            over=SMOOTHED,
        )
    )
    router_entropy: Mean = field(
        metadata=about("Mean over tokens of −Σ p ln p / ln E: 1 if the router has no preference")
    )
    router_logit_rms: Mean = field(metadata=about("Root mean square of the router's logits, without Gaussian noise"))
    router_logit_max: Worst = field(metadata=about("Largest absolute logit of the router, without Gaussian noise"))
    router_noise_std: Mean = field(metadata=about("Mean σ of the Gaussian noise in the logits"))
    router_task_gradient: Mean = field(
        metadata=about("Euclidean norm of the task loss's gradient on the router's weights")
    )
    router_balance_gradient: Mean = field(
        metadata=about(
            "Euclidean norm of the balancing loss's gradient on the router's weights, before weighting; 0 if there is "
            "no such loss"
        )
    )
    router_gradient_cosine: Mean = field(
        metadata=about(
            "Cosine between the gradients of task loss and balancing loss on the router's weights; NaN if one is 0"
        )
    )
    eval_task_loss: float = field(
        metadata=about("`task_loss` of held-out tokens in inference, after the step's update", "nats", TENTH)
    )
    eval_limited_loss: float = field(
        metadata=about(
            "`eval_task_loss` in batches of 256 tokens with a capacity limit; NaN without one", "nats", TENTH
        )
    )
    eval_sorted_loss: float = field(
        metadata=about("`eval_limited_loss` of the same tokens, sorted by group", "nats", TENTH)
    )
    load: PerExpert = field(metadata=about("Pairs that choose the expert, before capacity", PAIRS))
    first_load: PerExpert = field(metadata=about("First choices sent to the expert", "share of tokens"))
    importance: PerExpert = field(metadata=about("Mean router probability P of the expert", "probability"))
    processed: PerExpert = field(metadata=about("Pairs that the expert computes, after capacity", PAIRS))
    preferred_load: PerExpert = field(
        metadata=about("`load` of the router's own top-k, without Gaussian noise and without the mechanism", PAIRS)
    )
    selection_bias: PerExpert = field(
        metadata=about("Added to the expert's scores for selection; 0 except with the bias mechanism", "probability")
    )
    grad_norm: PerExpert = field(metadata=about("Euclidean norm of the total loss's gradient on the expert's weights"))
    weight_change: PerExpert = field(metadata=about("‖Δw‖ / ‖w‖ of the expert's weights"))
    weight_distance: PerExpert = field(
        metadata=about("‖w − w₀‖ / ‖w₀‖, the distance of the expert's weights from their initial values")
    )
    smoothed_load: PerExpert = field(metadata=about("`load`, averaged", PAIRS, SMOOTHED))
    eval_load: PerExpert = field(
        metadata=about("`load` of held-out tokens in inference, after the step's update", PAIRS, TENTH)
    )
    dropped_by_choice: PerChoice = field(
        metadata=about(
            "Tokens whose first, second … choice capacity drops; 0 beyond K, except under expert choice",
            "share of tokens",
        )
    )

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
    return ByName("column", positions)


def row_width(layers: int, num_experts: int) -> int:
    """The number of columns in a row of `History.rows`."""
    by_layer = len(OF_LAYERS) * layers if layers > 1 else 0
    return len(SCALARS) + by_layer + layers * (len(PER_EXPERT) * num_experts + len(PER_CHOICE) * MOST_CHOICES)
