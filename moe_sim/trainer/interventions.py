"""Interventions in a network's weights, besides training: an even start, copies, a blind router, a swap.

T tokens, E experts, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from moe_sim.trainer.moe import Experts, Router, linear_init

COLUMN_NORM = 1 / math.sqrt(12)
"""The length of each router column of an even start: half of what `linear_init` gives on average."""
MOST_UNEVEN = 1.76
"""An even start gives no expert more than this many times its uniform share: 22 % for eight experts."""
MOST_DRAWS = 64


def common_direction(x_TD: Tensor) -> Tensor:
    """(T, D) → (D,) the unit mean token: the direction that all tokens have in common."""
    return F.normalize(x_TD.mean(0), dim=0)


@torch.no_grad()
def make_blind(router: Router, direction_D: Tensor) -> None:
    """Removes from every router column its component along a direction, (..., D): W ← W − m mᵀ W."""
    column_D1 = direction_D.unsqueeze(-1)
    router.weight.sub_(column_D1 * (column_D1 * router.weight).sum(-2, keepdim=True))


@torch.no_grad()
def start_evenly(router: Router, x_TD: Tensor, generator: torch.Generator) -> None:
    """Makes a freshly drawn router blind to the common direction of the tokens, with columns of one length.

    Draws it again until no expert would get more than `MOST_UNEVEN` times its share of these tokens, at most
    `MOST_DRAWS` times.

    An even start is the norm: Shazeer et al. (2017) start the gate at zero for the same reason.
    """
    direction_D = common_direction(x_TD)
    num_experts = router.weight.shape[1]
    best, best_share = router.weight.clone(), math.inf
    for _ in range(MOST_DRAWS):
        make_blind(router, direction_D)
        router.weight.mul_(COLUMN_NORM / router.weight.norm(dim=0))
        share = torch.bincount((x_TD @ router.weight).argmax(1)).max().item() / len(x_TD)
        if share < best_share:
            best, best_share = router.weight.clone(), share
        if best_share <= MOST_UNEVEN / num_experts:
            break
        router.weight.copy_(linear_init(len(router.weight), tuple(router.weight.shape), generator))
    router.weight.copy_(best)


@torch.no_grad()
def start_as_copies(experts: Experts) -> None:
    """Gives every expert the weights of the first (sparse upcycling, Komatsuzaki et al. 2022)."""
    for weight in experts.parameters():
        weight.copy_(weight[:1].expand_as(weight))


@torch.no_grad()
def swap(tensors: Iterable[Tensor], pair: tuple[int, int], dim: int) -> None:
    """Exchanges two slices of each tensor along a dimension."""
    there, back = torch.tensor(pair), torch.tensor(pair[::-1])
    for tensor in tensors:
        tensor.index_copy_(dim, there, tensor.index_select(dim, back))
