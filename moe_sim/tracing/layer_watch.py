"""The hooks on one layer of a model that is watched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from moe_sim.tracing.discovery import Found
from moe_sim.tracing.sources import Choices, in_backward_pass, selection_of_mask, tensor_at, tokens_first
from moe_sim.tracing.tally import Tally


class Watching(Protocol):
    """What a layer needs to know of the recording that it belongs to."""

    @property
    def num_groups(self) -> int:
        """Number of groups of tokens."""

    def counts(self, training: bool) -> bool:
        """Whether what a layer routes now is to be counted."""

    def tokens(self, count: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """The mask and the groups of the present tokens."""


class LayerWatch:
    """Counts what one layer routes, by hooks on the two modules that show it.

    Args:
        name: of the layer in the trace.
        found: where its routing can be read.
        model: the whole model.
        watch: the recording.
    """

    def __init__(self, name: str, found: Found, model: nn.Module, watch: Watching) -> None:
        self.name = name
        self.found = replace(found, seen=[], seen_scores=[])  # else a whole forward pass would stay in memory
        self.num_experts, self.scores = found.num_experts, found.scores
        self.tallies: dict[str, Tally] = {}
        """By mode: training, evaluation."""
        self._watch = watch
        self._num_choices = found.seen[0].shape[1]
        self._module = model.get_submodule(found.module)
        self._router = model.get_submodule(found.scores_module) if found.scores else None
        self._hooks: list[RemovableHandle] = []
        self._choices: list[Choices] = []
        self._chosen: Tensor | None = None

    def begin(self) -> None:
        """Places the hooks."""
        place = {"input": self._hook_input, "topk": self._hook_choices, "rows": self._hook_rows}
        place.get(self.found.kind, self._hook_output)()
        if self._router is not None:
            self._hooks.append(self._router.register_forward_hook(self._after_router))

    def end(self) -> None:
        """Takes the hooks away."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def count(self, selection: Tensor) -> None:
        """Counts (T, K) choices."""
        mask, groups = self._watch.tokens(len(selection), selection.device)
        self._tally(selection.device).count(selection, mask, groups)

    def score(self, scores: Tensor) -> None:
        """Adds (T, E) of what the router offers."""
        mask, _ = self._watch.tokens(len(scores), scores.device)
        self._tally(scores.device).score(scores, mask)

    def _tally(self, device: torch.device) -> Tally:
        mode = "training" if self._module.training else "evaluation"
        if mode not in self.tallies:
            self.tallies[mode] = Tally(self.num_experts, self.scores, self._watch.num_groups, device)
        return self.tallies[mode]

    def _is_on(self) -> bool:
        return self._watch.counts(self._module.training) and not in_backward_pass()

    def _hook_input(self) -> None:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._is_on() and (seen := tensor_at({"args": args, "kwargs": kwargs}, self.found.slot)) is not None:
                self.count(tokens_first(seen))

        self._hooks.append(self._module.register_forward_pre_hook(hook, with_kwargs=True))

    def _hook_output(self) -> None:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self._is_on() and (seen := tensor_at(output, self.found.slot)) is not None:
                if self.found.kind == "mask":
                    self.count(selection_of_mask(seen))
                else:
                    self.count(tokens_first(seen if seen.ndim > 1 else seen[:, None]))

        self._hooks.append(self._module.register_forward_hook(hook))

    def _hook_choices(self) -> None:
        def chose(scores: Tensor, indices: Tensor) -> None:
            if scores.shape[-1] == self.num_experts and indices.shape[-1] == self._num_choices:
                self._chosen = tokens_first(indices.detach())

        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            if self._is_on():
                self._choices.append(Choices(chose))
                self._choices[-1].__enter__()

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self._choices and not in_backward_pass():
                self._choices.pop().__exit__(None, None, None)
                if self._chosen is not None:
                    self.count(self._chosen)
                    self._chosen = None

        self._hooks.append(self._module.register_forward_pre_hook(before))
        self._hooks.append(self._module.register_forward_hook(after, always_call=True))

    def _hook_rows(self) -> None:
        def hook(index: int) -> Any:
            def count(module: nn.Module, args: tuple[Any, ...]) -> None:
                if args and isinstance(args[0], Tensor) and self._is_on():
                    rows = args[0].shape[0]
                    self.count(torch.full((rows, 1), index, device=args[0].device))

            return count

        for index, expert in enumerate(self._module.children()):
            self._hooks.append(expert.register_forward_pre_hook(hook(index)))

    def _after_router(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._is_on() and (scores := tensor_at(output, self.found.scores_slot)) is not None:
            self.score(tokens_first(scores))
