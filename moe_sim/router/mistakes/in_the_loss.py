"""Mistakes in a balancing loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from moe_sim.batched import softmax
from moe_sim.config.run_config import RunConfig
from moe_sim.router.balancing import Balancing
from moe_sim.router.mistakes.mistake import Mistake, WrongLosses
from moe_sim.router.routing import Routing


class SoftmaxTwice(Mistake):
    """The loss takes the softmax of what are probabilities already."""

    class wrong(WrongLosses):
        @classmethod
        def misread(cls, routing: Routing) -> Routing:
            return replace(routing, probs=softmax(routing.probs))


class ChosenOnly(Mistake):
    """P is the mean over the chosen experts' probabilities only."""

    class wrong(WrongLosses):
        @classmethod
        def misread(cls, routing: Routing) -> Routing:
            chosen = torch.zeros_like(routing.probs).scatter_(-1, routing.expert_index, 1.0)
            return replace(routing, probs=routing.probs * chosen)


class Detached(Mistake):
    """The probabilities are detached: the loss is a constant."""

    class wrong(WrongLosses):
        @classmethod
        def misread(cls, routing: Routing) -> Routing:
            return replace(routing, probs=routing.probs.detach() + 0 * routing.probs)


class NotDivided(Mistake):
    """f is not divided by K: α acts K times as strongly."""

    class wrong(WrongLosses):
        @classmethod
        def mistaken(cls, loss: Tensor, config: RunConfig) -> Tensor:
            return config.top_k * loss


class Summed(Mistake):
    """The losses of micro-batches are summed, not averaged."""

    class wrong(WrongLosses):
        @classmethod
        def mistaken(cls, loss: Tensor, config: RunConfig) -> Tensor:
            return config.balance_groups * loss


class NeverAdded(Mistake):
    """The loss is never added, whatever α is."""

    class wrong(WrongLosses):
        @classmethod
        def mistaken(cls, loss: Tensor, config: RunConfig) -> Tensor:
            return 0 * loss


class Lumped(Mistake):
    """f and P are means over all layers."""

    class wrong(Balancing):
        @classmethod
        def losses(
            cls, mechanisms: Sequence[Self], layers: Sequence[Routing], config: RunConfig
        ) -> list[Tensor] | None:  # fmt: skip
            # The convention of transformers lumps layers, and counts K at balance.
            made = super().losses(mechanisms, layers, config.replace(convention="huggingface"))
            return None if made is None else [loss / config.top_k for loss in made]
