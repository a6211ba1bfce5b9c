"""Series derived from the columns of a history: averages, the smoothed ratio, router signals.

n steps, L layers, E experts.
"""

from __future__ import annotations

import numpy as np

from moe_sim.config.run_config import RunConfig
from moe_sim.history.columns import COARSE, SCALARS
from moe_sim.history.history import History
from moe_sim.history.layer import Layer
from moe_sim.metrics import SMOOTHING_HORIZON, imbalance_ratio, one_token


def smoothed_imbalance(history: Layer, start: int = 0, stop: int | None = None) -> np.ndarray:
    """(n,) max/min of the smoothed load; ∞ where an expert's share is below half of what one token adds. Of several
    layers, the largest."""
    return _ratios(history.layers_of("smoothed_load", start, stop), history.initial_config).max(1)


def layer_imbalances(history: History, start: int = 0, stop: int | None = None) -> np.ndarray:
    """(n, L) the same for each layer."""
    return _ratios(history.column("smoothed_load", start, stop), history.initial_config)


def _ratios(load: np.ndarray, config: RunConfig) -> np.ndarray:
    return imbalance_ratio(load, nothing=one_token(config.batch_tokens, config.top_k) / 2)


def evaluations(history: History | Layer, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """The rows of an `eval_…` column that hold an evaluation, one per block of 10 steps. `start` is a block's start."""
    return history.column(name, start, stop)[COARSE - 1 :: COARSE]


def coarse_mean(history: Layer, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """(n, E) means of a per-expert column over each complete block of 10 steps from `start` to `stop`."""
    length = len(history) if stop is None else stop
    values = history.column(name, start // COARSE * COARSE, length // COARSE * COARSE)
    return values.reshape(-1, COARSE, values.shape[1]).mean(1)


SIGNALS = (
    "router_task_gradient", "router_balance_push", "router_gradient_cosine", "router_logit_rms", "router_logit_max",
    "router_noise_std", "z_loss", "other_loss", "loss_share", "routing_std", "step_time",
    "eval_task_loss", "eval_limited_loss", "eval_sorted_loss", "eval_max_load",
)  # fmt: skip
"""Router quantities with one value per block of 10 steps."""
EVALUATED = ("eval_task_loss", "eval_limited_loss", "eval_sorted_loss")
"""Those that are losses of held-out tokens."""


def signals(history: Layer, start: int = 0, stop: int | None = None) -> dict[str, np.ndarray]:
    """All `SIGNALS` for each complete block of 10 steps from `start` to `stop`, (n,) each: means over the block unless
    stated otherwise.

    `other_loss` is the loss that α weighs, NaN where that is E·Σ f P itself or where the mechanism has none;
    `loss_share` what α times this loss adds to the total loss, as a share of it; `router_balance_push` α times its
    gradient norm on the router; `routing_std` the standard deviation of each expert's load over the last 20 batches,
    mean over experts and layers; `step_time` the modelled time of a step with one expert per device, in units of a
    balanced step; `eval_…` the evaluation after the block.
    """
    length = len(history) if stop is None else stop
    first, last = start // COARSE * COARSE, length // COARSE * COARSE
    ends = np.arange(first, last, COARSE) + COARSE

    def mean(values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, COARSE).mean(1)

    table = {
        name: mean(history.column(name, first, last)) for name in SIGNALS if name in SCALARS and name not in EVALUATED
    }
    alpha, z_coef = (history.knob(name)[first:last] for name in ("aux_loss_coef", "z_loss_coef"))
    task, balance, auxiliary, z = (
        history.column(name, first, last) for name in ("task_loss", "balance_loss", "auxiliary_loss", "z_loss")
    )
    push = alpha / history.history.num_layers * history.column("router_balance_gradient", first, last)
    differs = (auxiliary != 0) & ~np.isclose(auxiliary, balance, rtol=1e-4)
    load = history.layers_of("load", 0, last)
    return table | {
        "router_balance_push": mean(push),
        "other_loss": np.where(mean(differs) > 0, mean(auxiliary), np.nan),
        "loss_share": mean(alpha * auxiliary / (task + alpha * auxiliary + z_coef * z)),
        "routing_std": np.array([load[max(0, end - SMOOTHING_HORIZON) : end].std(0).mean() for end in ends]),
        "step_time": mean(step_time(history.layers_of("processed", first, last)).mean(1)),
        **{name: evaluations(history, name, first, last) for name in EVALUATED},
        "eval_max_load": history.layers_of("eval_load", first, last)[COARSE - 1 :: COARSE].max((1, 2)),
    }


def step_time(processed: np.ndarray) -> np.ndarray:
    """Modelled time of a step with one expert per device, in units of a balanced step; the busiest device decides.
    (…, E) shares of pairs that each expert computes → (…)."""
    return processed.max(-1) * processed.shape[-1]


def sampling_std(config: RunConfig) -> float:
    """The `routing_std` of tokens that draw their K experts at random: the sampling noise of a finite batch. Each of T
    tokens has a given expert with probability K/E."""
    chance = config.top_k / config.num_experts
    return float(np.sqrt(chance * (1 - chance) / config.batch_tokens) / config.top_k)


def recent(history: History | Layer, name: str, stop: int | None = None) -> np.ndarray:
    """The last 20 rows of a column, or of its rows up to step `stop`; fewer at the start."""
    end = len(history) if stop is None else stop
    return history.column(name, max(0, end - SMOOTHING_HORIZON), end)


def recent_mean(history: History | Layer, name: str, stop: int | None = None) -> np.ndarray:
    """Mean of a column over the last 20 steps, or over those up to step `stop`; zeros before the first."""
    values = recent(history, name, stop)
    return values.mean(0) if len(values) else np.zeros(values.shape[1:])


def recent_terms(history: Layer, load: str) -> np.ndarray:
    """(E,) means of f_i·P_i over the last 20 steps, with one of the load columns as f; zeros before the first."""
    start = max(0, len(history) - SMOOTHING_HORIZON)
    f, p = (history.layers_of(name, start) for name in (load, "importance"))
    return (f * p).mean((0, 1)) if len(f) else np.zeros(p.shape[2:])
