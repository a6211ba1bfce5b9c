"""The one place where balancing methods live: what the coefficient α weighs.

To add a method that is a loss, add a function and a row to `LOSSES`, and its name to `RunConfig.balancing`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from moe_sim import losses
from moe_sim.router import Routing


def _load_balancing(routing: Routing) -> Tensor:
    return losses.load_balancing_loss(router_probs=routing.probs, expert_index=routing.expert_index)


def _importance(routing: Routing) -> Tensor:
    return losses.importance_loss(router_probs=routing.probs)


def _none(routing: Routing) -> Tensor:
    return routing.logits.new_zeros(())


LOSSES: dict[str, Callable[[Routing], Tensor]] = {
    "load_balancing": _load_balancing,
    "importance": _importance,
    "none": _none,
}
"""Balancing method → the differentiable scalar that joins the total loss with weight α."""
