"""Finds the layers of a model that route, by what passes through its modules in one forward pass.

T tokens, K choices, E experts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from moe_sim.history.trace_format import MOST_CELLS, Scores
from moe_sim.tracing.sources import (
    Choices,
    Kind,
    Slot,
    in_backward_pass,
    is_integer,
    selection_of_mask,
    tensors_in,
    tokens_first,
)

KINDS = get_args(Kind)
LOOKED_FOR = (
    "a module that receives or returns whole numbers (T, K), indices of experts, beside a float (T, D) or (T, E); a "
    "module with experts in which topk or argmax chooses among (T, E); a mask (T, E); or a list of experts that are "
    "called with different numbers of tokens"
)
"""What a layer that routes is known by, to follow “looked for”."""
UP = 2
"""A router's experts are in its own module or at most this many levels up."""
NOT_COUNTS = ("per_tok", "per_token", "topk", "top_k", "shared", "size", "dim", "used", "capacity")
"""Attributes that mention experts, but do not count them."""
SIGMOID = ("correction_bias", "expert_bias")
"""Names of the selection biases that routers with sigmoid scores have (DeepSeek-V3 and its kin)."""


@dataclass(frozen=True, eq=False)
class Found:
    """Where the routing of one layer can be read."""

    name: str
    """The module that holds router and experts."""
    num_experts: int
    kind: Kind
    module: str
    """The module that shows the selection."""
    slot: Slot
    scores: Scores
    """What the router offers beside it."""
    scores_module: str
    scores_slot: Slot
    seen: list[Tensor]
    """The selections (T, K) of the forward pass in which it was found."""
    seen_scores: list[Tensor]
    """The scores (T, E) of that pass."""


@dataclass(frozen=True, eq=False)
class _Sight:
    """A tensor that may show a selection, or a router's scores."""

    module: str
    kind: Kind
    slot: Slot
    selection: Tensor
    """(T, K) indices."""
    block: str
    num_experts: int


@dataclass(frozen=True, eq=False)
class _Scores:
    module: str
    slot: Slot
    values: Tensor
    """(T, E)."""


class Discovery:
    """Looks at every module of a model while it runs. It costs some time, so it ends once layers are found.

    Args:
        model: of any kind.
        finished: called after each forward pass of the model, or of a part of it that was called alone, with what was
            found in it.
    """

    def __init__(self, model: nn.Module, finished: Callable[[list[Found]], None]) -> None:
        self._modules = dict(model.named_modules())
        self._finished = finished
        self._counts = {name: _expert_counts(module) for name, module in self._modules.items()}
        self._possible = set().union(*self._counts.values()) if self._counts else set()
        self._stack: list[str] = []
        self._choices: Choices | None = None
        self._forget()
        self._hooks: list[RemovableHandle] = []
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True, prepend=True))
            self._hooks.append(module.register_forward_hook(self._after(name), always_call=True))

    def end(self) -> None:
        """Takes all hooks away."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _forget(self) -> None:
        self._sights: list[_Sight] = []
        self._scores: list[_Scores] = []
        self._rows: dict[str, list[int]] = defaultdict(list)

    # While the model runs

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if in_backward_pass():
                return
            if not self._stack:
                self._choices = Choices(self._chose)
                self._choices.__enter__()
            self._stack.append(name)
            with torch.no_grad():
                self._look(name, "input", {"args": args, "kwargs": kwargs})

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if in_backward_pass() or not self._stack:
                return
            with torch.no_grad():
                self._look(name, "output", output)
            while self._stack and self._stack.pop() != name:  # modules that an error has ended
                pass
            if not self._stack and self._choices is not None:
                self._choices.__exit__(None, None, None)
                found = self._judge()
                self._forget()
                self._finished(found)

        return hook

    def _look(self, name: str, kind: Kind, value: Any) -> None:
        tensors = list(tensors_in(value))
        floats = [tensor for _, tensor in tensors if tensor.is_floating_point() and tensor.ndim > 1]
        if kind == "input" and floats and floats[0].ndim == 2:
            self._rows[name].append(len(floats[0]))
        leads = {tuple(tensor.shape[:-1]) for tensor in floats}
        for slot, tensor in tensors:
            if tensor.is_floating_point():
                if kind == "output" and tensor.ndim > 1 and tensor.shape[-1] in self._possible:
                    self._scores.append(_Scores(name, slot, tokens_first(tensor.detach())))
            elif (is_integer(tensor) or tensor.dtype == torch.bool) and tensor.numel():
                indices = tensor
                if tensor.ndim == 1 and kind == "output" and (len(tensor),) in leads:
                    indices = tensor[:, None]
                elif tuple(tensor.shape[:-1]) not in leads and not (kind == "output" and tensor.ndim > 1):
                    continue
                if indices.ndim > 1:
                    self._consider(name, kind, slot, indices)

    def _chose(self, scores: Tensor, indices: Tensor) -> None:
        if self._stack and not in_backward_pass():
            self._sight(self._stack[-1], "topk", (scores.shape[-1],), tokens_first(indices), scores.shape[-1])

    def _consider(self, name: str, kind: Kind, slot: Slot, values: Tensor) -> None:
        """Takes whole numbers for indices of experts, or for a mask over them, if they can be that."""
        rows = tokens_first(values)
        if values.dtype == torch.bool or (rows.shape[1] in self._possible and int(rows.max()) <= 1 and len(rows) > 1):
            chosen = rows.bool().sum(1)
            if kind == "output" and 0 < int(chosen.max()) < rows.shape[1]:
                self._sight(name, "mask", slot, selection_of_mask(rows), rows.shape[1])
            return
        if int(rows.min()) >= -1 and rows.shape[1] <= max(self._possible, default=0):
            self._sight(name, kind, slot, rows, None)

    def _sight(self, name: str, kind: Kind, slot: Slot, selection: Tensor, num_experts: int | None) -> None:
        most = int(selection.max())
        for block in _upwards(name):
            counts = sorted(count for count in self._counts_below(block) if count >= selection.shape[1])
            fitting = [count for count in counts if (count == num_experts if num_experts else count >= most)]
            # An index that equals the number of experts means none, where experts are spread over processes.
            certain = [count for count in fitting if count > most] or fitting
            if not certain:
                continue
            scored = {one.values.shape[1] for one in self._scores if len(one.values) == len(selection)}
            best = max([count for count in certain if count in scored] or self._counts[name] & {*certain} or certain)
            if _distinct(selection, best):
                self._sights.append(_Sight(name, kind, slot, selection.detach().clone(), block, best))
                return

    def _counts_below(self, block: str) -> set[int]:
        prefix = f"{block}." if block else ""
        return set().union(*(counts for name, counts in self._counts.items() if f"{name}.".startswith(prefix)))

    # After a forward pass

    def _judge(self) -> list[Found]:
        sights = [*self._sights, *self._rows_of_experts()]
        holders = {self._holder(sight) for sight in sights}
        outer = {one for one in holders for other in holders if other != one and _is_within(other, one)}
        found: list[Found] = []
        blocks: dict[str, list[_Sight]] = defaultdict(list)
        for sight in sights:
            if self._holder(sight) not in outer:
                blocks[self._holder(sight)].append(sight)
        for block, candidates in blocks.items():
            best = min(KINDS.index(sight.kind) for sight in candidates)
            chosen = [sight for sight in candidates if KINDS.index(sight.kind) == best]
            if KINDS[best] == "topk":
                widest = max(sight.num_experts for sight in chosen)
                last = [sight for sight in chosen if sight.num_experts == widest][-1]
                chosen = [one for one in chosen if (one.module, one.slot) == (last.module, last.slot)
                          and one.selection.shape[1] == last.selection.shape[1]]  # fmt: skip
            places: dict[tuple[str, Slot], list[_Sight]] = defaultdict(list)
            for sight in chosen:
                places[sight.module, sight.slot].append(sight)
            apart = _apart(list(places.values()))
            for same in apart:
                name = block if len(apart) == 1 else same[0].module
                found.append(self._found(name, block, same))
        return found

    def _holder(self, sight: _Sight) -> str:
        """The module that holds router and experts: around a module that is only one of them, the next one."""
        alone = sight.kind in ("input", "output", "mask") or not _has_experts(self._modules[sight.block])
        return sight.block.rpartition(".")[0] if alone and sight.block == sight.module else sight.block

    def _found(self, name: str, block: str, sights: list[_Sight]) -> Found:
        first, tokens = sights[0], len(sights[0].selection)
        offered = [
            one for one in self._scores
            if _is_within(one.module, block) and one.values.shape == (tokens, first.num_experts)
        ]  # fmt: skip
        scores, values = (offered[0], _kind_of_scores(offered[0].values)) if offered else (None, "")
        kind: Scores = values  # type: ignore[assignment]
        if kind == "logits" and self._has_sigmoid(block):
            kind = "sigmoid"
        same = [one.values for one in offered if scores and (one.module, one.slot) == (scores.module, scores.slot)]
        return Found(
            name, first.num_experts, first.kind, first.module, first.slot, kind, scores.module if scores else "",
            scores.slot if scores else (), [one.selection for one in sights], same,
        )  # fmt: skip

    def _has_sigmoid(self, block: str) -> bool:
        module = self._modules[block]
        names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
        return any(word in name for name in names for word in SIGMOID)

    def _rows_of_experts(self) -> list[_Sight]:
        """Lists of modules that were called with different numbers of rows: one selection each, made of the counts."""
        sights = []
        for name, module in self._modules.items():
            if not isinstance(module, nn.ModuleList) or len(module) < 2:
                continue
            rows = [sum(self._rows.get(f"{name}.{index}", [])) for index in range(len(module))]
            if len(set(rows)) > 1 and len({type(one) for one in module}) == 1:
                selection = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(rows))[:, None]
                block = name.rpartition(".")[0]
                sights.append(_Sight(name, "rows", (), selection, block, len(rows)))
        return sights


def _has_experts(module: nn.Module) -> bool:
    """Whether a module has lists of modules, or stacked weights, anywhere."""
    return any(isinstance(one, nn.ModuleList) for one in module.modules()) or any(
        weight.ndim > 2 for weight in module.parameters()
    )


def _expert_counts(module: nn.Module) -> set[int]:
    """How many experts a module itself may hold, by its lists, its stacked weights and its attributes."""
    counts = {len(child) for child in module.children() if isinstance(child, nn.ModuleList)}
    counts |= {len(weight) for weight in module.parameters(recurse=False) if weight.ndim > 2}
    for name, value in vars(module).items():
        if "expert" in name and isinstance(value, int) and not any(word in name for word in NOT_COUNTS):
            counts.add(int(value))
    return {count for count in counts if 2 <= count <= MOST_CELLS}


def _upwards(name: str) -> list[str]:
    names = [name]
    while name and len(names) <= UP:
        name = name.rpartition(".")[0]
        names.append(name)
    return names


def _is_within(name: str, block: str) -> bool:
    return not block or name == block or name.startswith(f"{block}.")


def _distinct(selection: Tensor, num_experts: int) -> bool:
    """Whether no token chooses an expert twice."""
    ordered = selection.sort(1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0) & (ordered[:, 1:] < num_experts)
    return not bool(twice.any())


def _apart(places: list[list[_Sight]]) -> list[list[_Sight]]:
    """Drops places that show the same selections as an earlier one."""
    kept: list[list[_Sight]] = []
    for place in places:
        same = (
            len(place) == len(other)
            and all(torch.equal(a.selection.sort(1).values, b.selection.sort(1).values)
                    for a, b in zip(place, other, strict=True))
            for other in kept
        )  # fmt: skip
        if not any(same):
            kept.append(place)
    return kept


def _kind_of_scores(values: Tensor) -> str:
    """What the numbers of a router are: some that are called logits are probabilities."""
    numbers = values.float()
    if bool((numbers < 0).any()) or bool((numbers > 1.001).any()):
        return "logits"
    return "probabilities" if torch.allclose(numbers.sum(1), torch.ones(()), atol=0.02) else "scores"
