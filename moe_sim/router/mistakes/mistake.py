"""The places where a run can go wrong, each as it is when nothing does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from moe_sim.config.run_config import RunConfig
from moe_sim.router.balancing import Balancing
from moe_sim.router.routing import Routing


class Mistake:
    """No mistake. A subclass replaces what it gets wrong."""

    wrong: ClassVar[type[Balancing] | None] = None
    """What stands before the right mechanism in its method resolution order."""

    @classmethod
    def mechanism(cls, right: type[Balancing]) -> type[Balancing]:
        """The mechanism of the run, instead of the right one."""
        return right if cls.wrong is None else type(f"{cls.__name__}In{right.__name__}", (cls.wrong, right), {})

    @staticmethod
    def evaluation(steps: int | Sequence[int]) -> dict[str, Any]:
        """How `MoE.route` routes held-out tokens after a step, or after a step of each of several runs."""
        return {"inference": True}

    @staticmethod
    def counted(routing: Routing) -> np.ndarray:
        """(..., E) the choices that the recorded load counts."""
        return routing.chosen()


class WrongLosses(Balancing):
    """A mechanism whose losses are wrong in one respect."""

    @classmethod
    def losses(
        cls, mechanisms: Sequence[Self], layers: Sequence[Routing], config: RunConfig
    ) -> list[Tensor] | None:  # fmt: skip
        made = super().losses(mechanisms, [cls.misread(routing) for routing in layers], config)
        return None if made is None else [cls.mistaken(loss, config) for loss in made]

    @classmethod
    def misread(cls, routing: Routing) -> Routing:
        """The routing as the loss sees it."""
        return routing

    @classmethod
    def mistaken(cls, loss: Tensor, config: RunConfig) -> Tensor:
        """What is made of a layer's loss."""
        return loss
