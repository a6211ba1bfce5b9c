"""What gives mistakes away, read from the columns of a history.

They are judged on histories of 60 steps and more; fewer may not show a mistake yet.
"""

from __future__ import annotations

import numpy as np

from moe_sim.diagnosis.verdict import NO_GRADIENT
from moe_sim.history.columns import COARSE
from moe_sim.history.history import History
from moe_sim.router.balancing import METHODS

EXACT = 0.1
"""How far, relatively, a ratio may be from the whole number that explains it."""


def no_task_gradient(history: History) -> bool:
    """The task loss has no gradient on a router that should learn."""
    learns = ~history.knob("frozen") & ~history.knob("frozen_router")
    largest = history.column("router_task_gradient")[learns].max(initial=0.0)
    return history.initial_config.balancing != "hash" and largest < NO_GRADIENT


def no_balance_gradient(history: History) -> bool:
    """The loss that α weighs has a value, but no gradient on the router."""
    has_value = bool((history.column("auxiliary_loss") > 0).all())
    return has_value and not history.column("router_balance_gradient")[~history.knob("frozen")].any()


def no_loss(history: History) -> bool:
    """α is above 0, and the loss that it weighs is 0 in every step."""
    config = history.initial_config
    weighs = config.aux_loss_coef > 0 and "aux_loss_coef" in METHODS[config.balancing].uses(config)
    return weighs and not history.column("auxiliary_loss").any()


def times_choices(history: History) -> bool:
    """The loss that α weighs is K times E·Σ f·P in every step, although its convention divides f by K."""
    config = history.initial_config
    counts_shares = _weighs_load_balancing(history) and config.convention != "huggingface"
    counts_shares &= config.balance_groups == 1
    return counts_shares and config.top_k > 1 and bool(np.allclose(_ratios(history), config.top_k, rtol=EXACT))


def times_groups(history: History) -> bool:
    """The loss that α weighs is about as many times E·Σ f·P as there are micro-batches."""
    groups = history.initial_config.balance_groups
    return _weighs_load_balancing(history) and groups > 1 and float(np.median(_ratios(history))) > groups * (1 - EXACT)


def too_small_for_one_layer(history: History) -> bool:
    """Of one layer, the loss that α weighs is below 1 while E·Σ f·P is at least 1."""
    auxiliary, balance = (history.column(name) for name in ("auxiliary_loss", "balance_loss"))
    below = (auxiliary > 0) & (auxiliary < 0.95) & (balance > 0.98)
    return _weighs_load_balancing(history) and history.num_layers == 1 and bool(below.mean() > 0.9)


def too_flat_for_one_layer(history: History) -> bool:
    """Of one layer, the loss that α weighs rises above 1 less than half as far as E·Σ f·P, wherever that does."""
    auxiliary, balance = (history.column(name) for name in ("auxiliary_loss", "balance_loss"))
    uneven = balance > 1.2
    flat = (auxiliary >= 0.99) & (auxiliary - 1 < 0.5 * (balance - 1))
    return (
        _weighs_load_balancing(history) and history.num_layers == 1 and bool(uneven.sum() >= 10 and flat[uneven].all())
    )


def even_only_on_average(history: History) -> bool:
    """Of several layers, the loss that α weighs is near 1 while each layer's own is far above."""
    auxiliary, balance = (history.column(name)[-20:].mean() for name in ("auxiliary_loss", "balance_loss"))
    return _weighs_load_balancing(history) and history.num_layers > 1 and bool(0.9 < auxiliary < 1.15 and balance > 1.5)


def varying_evaluations(history: History) -> bool:
    """Evaluations of the same tokens with the same weights and settings differ."""
    return any(len(set(losses)) > 1 for losses in _frozen_evaluations(history).values())


def evaluations_that_depend_on_capacity(history: History) -> bool:
    """With the same weights, evaluations are equal for each capacity factor, but not for both."""
    stretches = _frozen_evaluations(history)
    steady = all(len(set(losses)) == 1 for losses in stretches.values())
    return steady and len({losses[0] for losses in stretches.values()}) > 1


def load_of_first_choices(history: History) -> bool:
    """The load is that of the first choices in every step, although each token has several, and the experts compute
    something else."""
    layer = history.layer()
    load, first, processed = (layer.column(name) for name in ("load", "first_load", "processed"))
    equal = bool(np.array_equal(load, first)) and not np.allclose(load, processed, atol=0.02)
    return history.initial_config.top_k > 1 and not history.column("dropped_fraction").any() and equal


def _weighs_load_balancing(history: History) -> bool:
    """Whether what α weighs should be E·Σ f·P, and so is comparable with it."""
    return history.initial_config.balancing == "load_balancing"


def _ratios(history: History) -> np.ndarray:
    """The loss that α weighs, divided by E·Σ f·P, of the last 50 steps."""
    return (history.column("auxiliary_loss") / history.column("balance_loss"))[-50:]


def _frozen_evaluations(history: History) -> dict[float, list[float]]:
    """Evaluations after a whole frozen interval, by capacity factor."""
    losses, frozen, factors = (
        history.column("eval_task_loss"), history.knob("frozen"), history.knob("capacity_factor")
    )  # fmt: skip
    found: dict[float, list[float]] = {}
    for index in np.flatnonzero(~np.isnan(losses)):
        if frozen[max(0, index - COARSE) : index + 1].all():
            found.setdefault(float(np.nan_to_num(factors[index], nan=0.0)), []).append(float(losses[index]))
    return found
