"""Where the routing of a layer can be read while a model runs, and how.

T tokens, K choices, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Slot = tuple[int | str, ...]
"""The way to a tensor in the arguments or the result of a module: positions and names."""
Kind = Literal["input", "output", "topk", "mask", "rows"]
"""How a selection is read, the most direct way first: indices that experts receive, indices that a module returns, what
`topk` or `argmax` chose within a module, a mask that a module returns, the rows that each expert receives."""

_CHOOSING = frozenset(
    {torch.topk, torch.Tensor.topk, torch.argmax, torch.Tensor.argmax, torch.max, torch.Tensor.max}
)  # fmt: skip


def tensors_in(value: Any, slot: Slot = (), depth: int = 0) -> Iterator[tuple[Slot, Tensor]]:
    """All tensors in the arguments or the result of a module, with the ways to them."""
    if isinstance(value, Tensor):
        yield slot, value
    elif depth < 3:
        if isinstance(value, Mapping):
            parts: Any = value.items()
        elif isinstance(value, list | tuple):
            parts = enumerate(value)
        else:
            return
        for key, part in parts:
            yield from tensors_in(part, (*slot, key), depth + 1)


def tensor_at(value: Any, slot: Slot) -> Tensor | None:
    """The tensor at the end of a way; None if it is not there."""
    for key in slot:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return None
    return value if isinstance(value, Tensor) else None


def is_integer(tensor: Tensor) -> bool:
    """Whether it holds whole numbers."""
    return tensor.dtype in (torch.int64, torch.int32, torch.int16, torch.uint8)


def in_backward_pass() -> bool:
    """Whether autograd is running: then a forward pass is one that activation checkpointing repeats."""
    return torch._C._current_graph_task_id() != -1


class Choices(TorchFunctionMode):
    """While it is active, reports what `topk`, `argmax` and `max` choose along the last dimension.

    Args:
        report: called with the scores (…, E) and the indices (…, K).
    """

    def __init__(self, report: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self._report = report

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        scores = args[0] if args else kwargs.get("input")
        if func in _CHOOSING and isinstance(scores, Tensor):
            indices = _chosen(func.__name__, scores, args, kwargs, result)
            if indices is not None:
                self._report(scores, indices)
        return result


def _chosen(name: str, scores: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Tensor | None:
    """(…, K) the indices that were chosen along the last dimension; None if it was another."""
    if scores.ndim < 2:
        return None
    at = 2 if name == "topk" else 1
    dim = kwargs.get("dim", args[at] if len(args) > at else -1 if name == "topk" else None)
    if not isinstance(dim, int) or dim not in (-1, scores.ndim - 1):
        return None
    indices = result[1] if name in ("topk", "max") else result
    return indices if indices.ndim == scores.ndim else indices.unsqueeze(-1)


def tokens_first(values: Tensor) -> Tensor:
    """(T, …) with all dimensions but the last as tokens."""
    return values.reshape(-1, values.shape[-1])


def selection_of_mask(mask: Tensor) -> Tensor:
    """(T, E) bool or 0 and 1 → (T, E) the indices of the chosen experts, −1 for the others."""
    chosen = tokens_first(mask).bool()
    return torch.where(chosen, torch.arange(chosen.shape[1], device=chosen.device), -1)
