"""Adam (Kingma & Ba 2015) through torch's functional form.

`torch.optim.Adam` does the same arithmetic, but the first use of any `torch.optim.Optimizer` loads torch's compiler.
That costs every process more than a second: the server at the first visit, and each sweep worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor
from torch.optim.adam import adam

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Updates tensors in place from their `.grad`, with torch's defaults and a learning rate per step.

    For runs that are computed together, tensors have a leading dimension and each run has its own rate (`stack`).
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self._first_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._second_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [[torch.zeros(())] for _ in self.parameters]
        """Of each parameter, for each run."""
        self._views: list[list[list[Tensor]]] = []
        """Of each parameter of a stack: it and its moments, by run."""

    @classmethod
    def stack(cls, optimizers: Sequence[Self], parameters: Iterable[Tensor]) -> Self:
        """Returns the optimizer of parameters that are stacked in the same order."""
        together = cls.__new__(cls)
        together.parameters = list(parameters)
        for moments in ("_first_moments", "_second_moments"):
            columns = zip(*(getattr(one, moments) for one in optimizers), strict=True)
            setattr(together, moments, [torch.stack(column) for column in columns])
        columns = zip(*(one._steps for one in optimizers), strict=True)
        together._steps = [[steps[0] for steps in column] for column in columns]
        states = zip(together.parameters, together._first_moments, together._second_moments, strict=True)
        together._views = [[list(tensor.detach().unbind()) for tensor in state] for state in states]
        return together

    @torch.no_grad()
    def unstack(self, index: int, optimizer: Self) -> None:
        """Brings an optimizer of a stack up to date."""
        torch._foreach_copy_(optimizer._first_moments, [first[index] for _, first, _ in self._views])
        torch._foreach_copy_(optimizer._second_moments, [second[index] for _, _, second in self._views])

    def zero_grad(self) -> None:
        """Clears all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float | Sequence[float]) -> None:
        """Takes one step, with a rate for each run of a stack. A parameter without a gradient keeps its value and its
        moments."""
        states_by_rate: dict[float, list[tuple[Tensor, ...]]] = {}
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            if isinstance(learning_rate, Sequence):
                rates, gradients = learning_rate, list(parameter.grad.unbind())
                values, first, second = self._views[index]
            else:
                rates, gradients = [learning_rate], [parameter.grad]
                values, first, second = [parameter], [self._first_moments[index]], [self._second_moments[index]]
            for rate, *state in zip(rates, values, gradients, first, second, self._steps[index], strict=True):
                states_by_rate.setdefault(rate, []).append(tuple(state))
        for rate, alike in states_by_rate.items():
            parameters, gradients, first_moments, second_moments, counts = map(list, zip(*alike, strict=True))
            adam(
                parameters, gradients, first_moments, second_moments, [], counts,
                fused=True, amsgrad=False, maximize=False, weight_decay=0.0,
                beta1=BETA1, beta2=BETA2, eps=EPSILON, lr=rate,
            )  # fmt: skip

    def state_of(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """The moments of a parameter, of its shape."""
        index = next(i for i, own in enumerate(self.parameters) if own is parameter)
        return self._first_moments[index], self._second_moments[index]
