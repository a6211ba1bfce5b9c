"""Adam (Kingma & Ba 2015) through torch's functional form.

`torch.optim.Adam` does the same arithmetic, but the first use of any `torch.optim.Optimizer` loads torch's compiler.
That costs every process more than a second: the server at the first visit, and each sweep worker.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Updates tensors in place from their `.grad`, with torch's defaults and a learning rate per step."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self._first_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._second_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [torch.zeros(()) for _ in self.parameters]

    def zero_grad(self) -> None:
        """Clears all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Takes one step. A parameter without a gradient keeps its value and its moments."""
        states = zip(self.parameters, self._first_moments, self._second_moments, self._steps, strict=True)
        active = [(p, p.grad, first, second, steps) for p, first, second, steps in states if p.grad is not None]
        if not active:
            return
        columns = zip(*active, strict=True)
        parameters, gradients, first_moments, second_moments, steps = (list(column) for column in columns)
        adam(
            parameters, gradients, first_moments, second_moments, [], steps,
            fused=True, amsgrad=False, maximize=False, weight_decay=0.0,
            beta1=BETA1, beta2=BETA2, eps=EPSILON, lr=learning_rate,
        )  # fmt: skip

    def state_of(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """The moments of a parameter, of its shape."""
        index = next(i for i, own in enumerate(self.parameters) if own is parameter)
        return self._first_moments[index], self._second_moments[index]
