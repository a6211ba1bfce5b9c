"""`watch`: records who is routed where in any torch model, while it trains or runs."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.utils.hooks import RemovableHandle

from moe_sim.config.errors import InvalidInput
from moe_sim.history.files import make_directory
from moe_sim.history.trace_format import (
    LONGEST_NAME,
    MOST_GROUPS,
    MOST_NUMBERS,
    Routed,
    Setting,
    TracedLayer,
    TraceHeader,
    TraceRecord,
)
from moe_sim.history.trace_writer import TraceWriter
from moe_sim.tracing.discovery import LOOKED_FOR, Discovery, Found
from moe_sim.tracing.layer_watch import LayerWatch
from moe_sim.tracing.settings_of import framework_of, settings_of
from moe_sim.tracing.tally import Reading, Tally, width

WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel")
TokenArgument = str | Callable[[tuple[Any, ...], dict[str, Any]], Tensor | None] | None
"""Where something about each token can be found: the name of an argument of the model's forward pass, or a function of
its arguments."""


class NothingToWatchError(InvalidInput):
    """No layer of the model routes tokens, as far as can be seen."""


class BlindSpotWarning(UserWarning):
    """Hooks cannot see a part of the model."""


def watch(
    model: nn.Module, path: str | os.PathLike[str], *, every: int = 1, token_mask: TokenArgument = "attention_mask",
    groups: TokenArgument = None, group_names: Sequence[str] = (), layers: str | Sequence[str] | None = None,
    names: Mapping[str, str] | None = None, settings: Mapping[str, Setting] | None = None,
) -> Watch:  # fmt: skip
    """Begins to record the routing of a model, whose code stays as it is.

        with moe_sim.watch(model, "runs/first") as trace:
            for batch in loader:
                loss = model(**batch).loss
                loss.backward(); optimizer.step(); optimizer.zero_grad()
                trace.step(task_loss=loss.item())

    Counts stay on the model's device until a record is written. Forward passes that activation checkpointing repeats
    are counted once; those in evaluation mode apart. In data-parallel training, all processes must call `step` alike:
    the counts are summed, and the first process writes. A folder that holds a trace already is continued.

    Args:
        model: any torch module, wrapped or not.
        path: the folder of the trace; `open_trace` and the page *Your model* read it, also meanwhile.
        every: record each such step. Between them, the hooks do nothing.
        token_mask: which tokens count: the name of an argument of the model's forward pass that holds ones (or True)
            for tokens and zeros for padding, or a function of its positional and keyword arguments that returns such a
            tensor. None: all. An argument that is missing, or does not fit, masks nothing.
        groups: the group of each token (a domain, a language), found alike: whole numbers from 0.
        group_names: names of the groups.
        layers: patterns of the names of layers to record, such as `"*.mlp"`; None for all.
        names: other names for layers.
        settings: the model's settings that concern routing, in place of those found in `model.config`.

    Returns:
        A context manager; leaving it ends the recording and takes all hooks away.

    Raises:
        InvalidInput: if an argument makes no sense.
        CannotWriteError: if nothing can be written there.
    """
    return Watch(
        model, path, every=every, token_mask=token_mask, groups=groups, group_names=group_names, layers=layers,
        names=names, settings=settings,
    )  # fmt: skip


class Watch:
    """A recording in progress; see `watch`."""

    def __init__(
        self, model: nn.Module, path: str | os.PathLike[str], *, every: int, token_mask: TokenArgument,
        groups: TokenArgument, group_names: Sequence[str], layers: str | Sequence[str] | None,
        names: Mapping[str, str] | None, settings: Mapping[str, Setting] | None,
    ) -> None:  # fmt: skip
        if not isinstance(model, nn.Module):
            raise InvalidInput(f"watch needs a torch module, not {type(model).__name__}.")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InvalidInput(f"every must be a whole number from 1, not {every!r}.")
        if (groups is None) != (not group_names) or len(group_names) > MOST_GROUPS:
            raise InvalidInput(f"groups and group_names belong together; at most {MOST_GROUPS} groups can be recorded.")
        self.path = Path(path)
        self.steps = 0
        """Training steps so far, with those of the trace that is continued."""
        make_directory(self.path)
        self._model = _unwrapped(model)
        self._every, self._group_names = every, tuple(group_names)
        self._mask_argument, self._group_argument = token_mask, groups
        self._patterns = [layers] if isinstance(layers, str) else layers
        self._names = dict(names or {})
        self._settings = dict(settings) if settings is not None else settings_of(self._model)
        self._layers: list[LayerWatch] = []
        self._writer: TraceWriter | None = None
        self._numbers: dict[str, list[float | Tensor]] = {}
        self._recording = True
        self._until_record = 1
        self._forward_passes = 0
        self._silent: set[str] = set()
        self._mask: Tensor | None = None
        self._groups: Tensor | None = None
        self._hooks: list[RemovableHandle] = [
            self._model.register_forward_pre_hook(self._note_tokens, with_kwargs=True, prepend=True)
        ]
        self._discovery: Discovery | None = Discovery(self._model, self._found)
        self._warn_of_compiled_parts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        nothing = self._forward_passes and not self._layers
        self.close()
        if nothing and kind is None:
            raise self._nothing()

    def __repr__(self) -> str:
        found = f"{len(self._layers)} layers" if self._layers else "no layer found yet"
        return f"<Watch {type(self._model).__name__} → {self.path}: {found}, {self.steps:,} steps>"

    @property
    def layers(self) -> tuple[TracedLayer, ...]:
        """What was found, in the order in which tokens pass; empty before the first forward pass."""
        return tuple(TracedLayer(layer.name, layer.num_experts, layer.scores) for layer in self._layers)

    def step(self, step: int | None = None, /, **numbers: float | Tensor) -> None:
        """Ends a training step: writes a record of all that was routed since the last one, every `every` steps.

        Args:
            step: its number; by default one more than the last one's.
            **numbers: what else to record, by name: a loss, a learning rate. Between records, they are averaged.

        Raises:
            NothingToWatchError: if no layer that routes was found in the forward passes so far.
            InvalidInput: if a number is none.
            CannotWriteError: if the trace cannot be written.
        """
        self._end_discovery()
        for name, value in numbers.items():
            self._numbers.setdefault(_checked_name(name), []).append(_checked(name, value))
        self.steps = self.steps + 1 if step is None else int(step)
        self._until_record -= 1
        if not self._until_record:
            self._write()
            self._until_record = self._every * self._rarer()
        self._recording = self._until_record == 1

    def log(self, step: int | None = None, /, **numbers: float | Tensor) -> None:
        """Adds numbers to the record of a step, the newest by default: for what is known later, such as a loss on
        held-out data.

        Raises:
            InvalidInput: if a number is none.
        """
        if self._writer is not None:
            values = {_checked_name(name): float(_checked(name, value)) for name, value in numbers.items()}
            values = dict(list(values.items())[:MOST_NUMBERS])
            self._writer.write(TraceRecord(self.steps if step is None else int(step), numbers=values))

    def end_evaluation(self) -> None:
        """Writes what was routed in evaluation mode since the last record to that of the newest step. Without this, it
        belongs to the next record, or is lost if there is none. In data-parallel training, all processes must call it.
        """
        if self._discovery is not None:
            return  # before the first step there is no record to add it to
        evaluation = self._gather("evaluation")
        if self._writer is not None and evaluation is not None:
            self._writer.write(TraceRecord(self.steps, evaluation=evaluation))

    def close(self) -> None:
        """Ends the recording. What was routed since the last `step` is not recorded."""
        if self._discovery is not None:
            self._discovery.end()
            self._discovery = None
        for hook in self._hooks:
            hook.remove()
        for layer in self._layers:
            layer.end()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # Finding the layers

    def _found(self, found: list[Found]) -> None:
        """Takes up the layers of a forward pass, and counts what it has routed."""
        self._forward_passes += 1
        for one in found:
            name = self._names.get(one.name, one.name) or type(self._model).__name__
            if self._patterns and not any(fnmatchcase(one.name, pattern) for pattern in self._patterns):
                continue
            known = next((layer for layer in self._layers if layer.found.module == one.module
                          and layer.found.slot == one.slot), None)  # fmt: skip
            if known is None:
                known = LayerWatch(name[:LONGEST_NAME], one, self._model, self)
                self._layers.append(known)
            for selection in one.seen:
                known.count(selection)
            for scores in one.seen_scores:
                known.score(scores)

    def _end_discovery(self) -> None:
        if self._discovery is None:
            return
        if not self._layers:
            raise self._nothing()
        self._discovery.end()
        self._discovery = None
        for layer in self._layers:
            layer.begin()
        if not _is_distributed() or distributed.get_rank() == 0:
            header = TraceHeader(
                self.layers, type(self._model).__name__, framework_of(self._model), self._settings, self._group_names,
                self._every,
            )  # fmt: skip
            self._writer = TraceWriter(self.path, header)
            self.steps = self._writer.last_step

    def _nothing(self) -> NothingToWatchError:
        model = type(self._model).__name__
        if not self._forward_passes:
            return NothingToWatchError(f"{model} has not run yet: there is nothing to record before a forward pass.")
        if self._patterns:
            return NothingToWatchError(f"No layer of {model} that routes has a name like {', '.join(self._patterns)}.")
        return NothingToWatchError(f"No layer of {model} was seen to route tokens. What was looked for: {LOOKED_FOR}.")

    def _warn_of_compiled_parts(self) -> None:
        compiled = [
            name or type(module).__name__ for name, module in self._model.named_modules()
            if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        ]  # fmt: skip
        if compiled:
            where = ", ".join(compiled[:3])
            warnings.warn(
                f"{where} is compiled: hooks may not see inside. Watch the model before torch.compile, or compile "
                "everything but the layers that route.", BlindSpotWarning, stacklevel=4,
            )  # fmt: skip

    # While the model runs

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self._group_names)

    def counts(self, training: bool) -> bool:
        """Whether what a layer routes now is to be counted."""
        return self._recording or not training

    def tokens(self, count: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """(T,) the mask of the present forward pass and its groups, where they fit that many tokens; else None."""
        fitting = (
            None if one is None or one.numel() != count else one.reshape(-1).to(device, non_blocking=True)
            for one in (self._mask, self._groups)
        )
        mask, groups = fitting
        return None if mask is None else mask.bool(), groups

    def _note_tokens(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._mask = _argument(self._mask_argument, module, args, kwargs)
        self._groups = _argument(self._group_argument, module, args, kwargs)

    # Writing

    def _write(self) -> None:
        training = self._gather("training")
        evaluation = self._gather("evaluation")
        numbers = self._means()
        if self._writer is None or (training is None and evaluation is None and not numbers):
            return
        self._warn_of_silent_layers(training)
        self._writer.write(TraceRecord(self.steps, training, evaluation, numbers))

    def _rarer(self) -> int:
        """By how much records should be rarer than was asked for. All processes agree: only the first has a file."""
        own = self._writer.rarer if self._writer is not None else 1
        if not _is_distributed():
            return own
        return int(_reduced(torch.tensor(own), distributed.ReduceOp.MAX))

    def _gather(self, mode: str) -> Routed | None:
        """What all layers, in all processes, have routed in one mode since the last record."""
        tallies: list[Tally | None] = [layer.tallies.get(mode) for layer in self._layers]
        vectors, largest = _to_host(tallies, self._layers, self.num_groups)
        for tally in tallies:
            if tally is not None:
                tally.clear()
        if _is_distributed():
            vectors, largest = _over_all_processes(vectors, largest, self._layers)
        readings, position = [], 0
        for layer, most in zip(self._layers, largest, strict=True):
            length = width(layer.num_experts, self.num_groups)
            vector = vectors[position : position + length]
            readings.append(Reading(vector, float(most), layer.num_experts, layer.scores))
            position += length
        if not any(reading.tokens for reading in readings):
            return None
        return _routed(readings, self.num_groups)

    def _means(self) -> dict[str, float]:
        names = list(self._numbers)[:MOST_NUMBERS]
        means = {name: float(np.mean([float(value) for value in self._numbers[name]])) for name in names}
        self._numbers = {}
        if _is_distributed() and means:
            values = torch.tensor(list(means.values()), dtype=torch.float64)
            values = _reduced(values, distributed.ReduceOp.SUM) / distributed.get_world_size()
            means = dict(zip(means, values.tolist(), strict=True))
        return means

    def _warn_of_silent_layers(self, training: Routed | None) -> None:
        if training is None:
            return
        for layer, tokens in zip(self._layers, training.tokens, strict=True):
            if not tokens and layer.name not in self._silent:
                self._silent.add(layer.name)
                warnings.warn(
                    f"{layer.name} routed nothing in this step, as far as hooks can see. Are they skipped, by "
                    "torch.compile or a CUDA graph?", BlindSpotWarning, stacklevel=4,
                )  # fmt: skip


def _unwrapped(model: nn.Module) -> nn.Module:
    while type(model).__name__ in WRAPPERS and isinstance(model.module, nn.Module):
        model = model.module
    return model


def _argument(which: TokenArgument, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """What is known about each token of a forward pass."""
    if which is None:
        return None
    if callable(which):
        value = which(args, kwargs)
    elif which in kwargs:
        value = kwargs[which]
    else:
        try:
            value = inspect.signature(module.forward).bind_partial(*args).arguments.get(which)
        except TypeError:
            value = None
    return value if isinstance(value, Tensor) and value.ndim <= 2 else None


def _checked_name(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise InvalidInput(f"The name {name[:40]!r} … is too long.")
    return name


def _checked(name: str, value: Any) -> float | Tensor:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise InvalidInput(f"{name} must be one number, not a tensor of shape {tuple(value.shape)}.")
        return value.detach()
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be a number, not {type(value).__name__}.") from None


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _to_host(
    tallies: Sequence[Tally | None], layers: Sequence[LayerWatch], num_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """All sums laid end to end, and the largest logits: one copy from each device."""
    vectors = [np.zeros(width(layer.num_experts, num_groups)) for layer in layers]
    largest = np.zeros(len(layers))
    on_device: dict[torch.device, list[int]] = {}
    for index, tally in enumerate(tallies):
        if tally is not None:
            on_device.setdefault(tally.vector.device, []).append(index)
    for indices in on_device.values():
        here = [tally for index in indices if (tally := tallies[index]) is not None]
        together = torch.cat([part for one in here for part in (one.vector, one.largest[None].to(one.vector.dtype))])
        values, position = together.cpu().double().numpy(), 0
        for index in indices:
            length = len(vectors[index])
            vectors[index] = values[position : position + length]
            largest[index] = values[position + length]
            position += length + 1
    return np.concatenate(vectors), largest


def _over_all_processes(
    vectors: np.ndarray, largest: np.ndarray, layers: Sequence[LayerWatch]
) -> tuple[np.ndarray, np.ndarray]:
    sums = _reduced(torch.from_numpy(vectors), distributed.ReduceOp.SUM)
    most = _reduced(torch.from_numpy(largest), distributed.ReduceOp.MAX)
    return sums.numpy(), most.numpy()


def _reduced(values: Tensor, how: Any) -> Tensor:
    on_cpu = distributed.get_backend() != "nccl"
    moved = values if on_cpu else values.cuda()
    distributed.all_reduce(moved, how)
    return moved.cpu()


def _routed(readings: Sequence[Reading], num_groups: int) -> Routed:
    def by_layer(name: str) -> np.ndarray | None:
        values = np.array([getattr(reading, name) for reading in readings], dtype=float)
        return None if np.isnan(values).all() else values

    importance = np.concatenate([reading.importance for reading in readings])
    return Routed(
        tokens=np.array([reading.tokens for reading in readings]),
        counts=np.concatenate([reading.counts for reading in readings]),
        importance=None if np.isnan(importance).all() else importance,
        entropy=by_layer("entropy"), logit_rms=by_layer("logit_rms"), logit_max=by_layer("logit_max"),
        groups=np.concatenate([reading.groups for reading in readings], 1) if num_groups else None,
    )  # fmt: skip
