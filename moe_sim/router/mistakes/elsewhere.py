"""Mistakes in the router, in the evaluation and in what is monitored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_sim.router.balancing import Balancing
from moe_sim.router.mistakes.mistake import Mistake
from moe_sim.router.routing import Routing
from moe_sim.router.selection import Selection


class ConstantWeight(Mistake):
    """With one expert per token, its weight is divided by itself."""

    class wrong(Balancing):
        def select(self, logits: Tensor, scores: Tensor, top_k: int) -> Selection:
            selection = super().select(logits, scores, top_k)
            weight = torch.ones(selection.expert_index.shape, dtype=scores.dtype)
            return replace(selection, weights=weight) if top_k == 1 else selection


class NoisyEvaluation(Mistake):
    """The router's noise stays on in the evaluation."""

    @staticmethod
    def evaluation(steps: int | Sequence[int]) -> dict[str, Any]:
        noise = _generator(steps) if isinstance(steps, int) else [_generator(step) for step in steps]
        return {"inference": True, "noise": noise}


class LimitedEvaluation(Mistake):
    """The capacity limit stays on in the evaluation."""

    @staticmethod
    def evaluation(steps: int | Sequence[int]) -> dict[str, Any]:
        return {"inference": True, "limited": True}


class FirstChoicesOnly(Mistake):
    """Monitoring counts each token's first choice and forgets the others."""

    @staticmethod
    def counted(routing: Routing) -> np.ndarray:
        return routing.first_chosen()


def _generator(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(step)
