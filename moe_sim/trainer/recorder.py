"""Recording of training steps: tensors in, rows of a history out.

R runs that are computed together, 1 or more, with L layers each; T tokens, E experts, K choices per token, G groups.
What belongs to a layer is kept in rows, one for each layer of each run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from moe_sim import metrics
from moe_sim.config.run_config import RunConfig
from moe_sim.history.columns import (
    BY_LAYER,
    MOST_CHOICES,
    OF_LAYERS,
    PER_CHOICE,
    PER_EXPERT,
    SCALARS,
    WORST,
    column_positions,
    row_width,
)
from moe_sim.history.smoothed import Smoothed
from moe_sim.router.balancing import Balancing
from moe_sim.router.routing import Routing, count_experts
from moe_sim.router.selection import top_choices
from moe_sim.trainer.moe import MoE

SMOOTHED = ("_load", "joint", "together")
"""The attributes of `Recorder` that are averages over steps."""


@dataclass(frozen=True, eq=False)
class StepLosses:
    """The losses of a step, (R,), or scalars of a single run; of layers, one for each."""

    task: Tensor
    auxiliary: list[Tensor] | None
    """What each layer contributes to the loss that α weighs, before weighting; None if the mechanism has no loss."""
    z: list[Tensor]
    total: Tensor


@dataclass(frozen=True, eq=False)
class RouterGradients:
    """Gradients on each router's weights, (R, D, E) or (D, E); None where there is none."""

    task: list[Tensor] | None = None
    """Of the task loss, and with several layers of the other layers' losses."""
    balance: list[Tensor] | None = None
    """Of the layer's own balancing loss, before weighting."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Of held-out tokens in inference; NaN for runs that were not evaluated."""

    task_loss: np.ndarray
    """(R,)."""
    load: np.ndarray
    """(R, L, E)."""
    limited_loss: np.ndarray | float = np.nan
    """(R,) the task loss in small batches with a capacity limit; NaN without one."""
    sorted_loss: np.ndarray | float = np.nan
    """(R,) the same of tokens sorted by group."""


class Recorder:
    """Makes the records of runs and keeps the state that spans steps."""

    def __init__(self, layers: Sequence[MoE], groups: int) -> None:
        self._expert_weights = _expert_weights(layers)
        self._initial = self._last = _flat_per_expert(self._expert_weights)
        self._initial_norms = self._last_norms = _norms(self._initial)
        self._layers, self._num_experts, _ = self._initial.shape
        self._load = Smoothed(self._layers, self._num_experts)
        self.joint = Smoothed(self._layers, groups * self._num_experts)
        """(R · L, G·E) smoothed shares of tokens by group and first choice."""
        self.together = Smoothed(self._layers, self._num_experts**2)
        """(R · L, E·E) smoothed shares of tokens that have both experts."""

    @classmethod
    def stack(cls, recorders: Sequence[Self], layers: Sequence[MoE]) -> Self:
        """Returns one recorder for the runs of all, whose layers are stacked in the same order."""
        whole = copy.copy(recorders[0])
        whole._expert_weights = _expert_weights(layers)
        for name in ("_initial", "_last", "_initial_norms", "_last_norms"):
            setattr(whole, name, np.concatenate([getattr(recorder, name) for recorder in recorders]))
        for name in SMOOTHED:
            setattr(whole, name, Smoothed.stack([getattr(recorder, name) for recorder in recorders]))
        return whole

    def unstack(self, index: int, recorder: Self) -> None:
        """Brings a recorder of a stack up to date."""
        run = slice(index * self._layers, (index + 1) * self._layers)
        recorder._last, recorder._last_norms = self._last[run].copy(), self._last_norms[run].copy()
        for name in SMOOTHED:
            getattr(self, name).unstack(index, getattr(recorder, name))

    def record(
        self, steps: np.ndarray, config: RunConfig, mechanisms: Sequence[Balancing], groups: Tensor,
        routings: Sequence[Routing], loss: StepLosses, gradients: RouterGradients, evaluation: Evaluation,
        counted: Callable[[Routing], np.ndarray] = Routing.chosen,
    ) -> np.ndarray:  # fmt: skip
        """Records a step of each run after its update.

        Args:
            steps: (R,) their numbers, 1 for the first.
            config: what the runs have in common of their configuration.
            mechanisms: of each layer, in the state in which it selected experts.
            groups: (T,) or (R, T), the group of each token.
            routings: where the tokens went in each layer.
            loss: the losses.
            gradients: the gradients on the routers' weights.
            evaluation: the evaluation after the update.
            counted: the choices that the load counts.

        Returns:
            (R, width), a row for each run's `History.extend`.
        """
        runs, layers, num_experts = len(steps), self._layers, self._num_experts
        routing, rows = Routing.joined(routings), runs * layers
        shape = (rows, num_experts)
        pairs = routing.chosen().reshape(shape).sum(1, keepdims=True)
        chosen = counted(routing).reshape(shape)
        load, processed = chosen / chosen.sum(1, keepdims=True), routing.processed().reshape(shape)
        first = routing.first_chosen().reshape(shape)
        probs = routing.probs.detach().numpy().reshape(rows, -1, num_experts)
        importance = probs.mean(1, dtype=np.float64)
        logits = routing.logits.detach().numpy().reshape(rows, -1)
        smoothed_load = self._load.update(load)
        smoothed_joint = self._update_joint(groups.numpy().reshape(runs, -1).repeat(layers, 0), routing)
        self._update_together(routing)
        values: dict[str, np.ndarray | float] = {
            "step": steps,
            "task_loss": loss.task.detach().numpy(),
            "balance_loss": num_experts * (load * importance).sum(1),
            "auxiliary_loss": _numbers(loss.auxiliary),
            "z_loss": _numbers([z.detach() for z in loss.z]),
            "imbalance_ratio": metrics.imbalance_ratio(load),
            "max_violation": metrics.max_violation(load),
            "load_cv": metrics.coefficient_of_variation(load),
            "load_entropy": metrics.normalized_entropy(load),
            "dead_experts": metrics.dead_experts(smoothed_load),
            "dropped_fraction": 1 - processed.sum(1) / pairs[:, 0],
            "unserved_fraction": 1 - routing.served().reshape(rows, -1).mean(1),
            "efficiency": metrics.parallel_efficiency(load),
            "specialization": metrics.normalized_mutual_information(smoothed_joint),
            "router_entropy": _entropies(routing.probs),
            "router_logit_rms": np.sqrt(np.square(logits).mean(1, dtype=np.float64)),
            "router_logit_max": np.abs(logits).max(1),
            "router_noise_std": _means(routing.noise_std, rows),
            "router_task_gradient": _numbers(gradients.task, _lengths),
            "router_balance_gradient": _numbers(gradients.balance, _lengths),
            "router_gradient_cosine": _cosines(gradients),
            "eval_task_loss": evaluation.task_loss,
            "eval_limited_loss": evaluation.limited_loss,
            "eval_sorted_loss": evaluation.sorted_loss,
            "load": load,
            "first_load": first / first.sum(1, keepdims=True),
            "importance": importance,
            "processed": processed / pairs,
            "preferred_load": _preferred_load(routing, load, config.top_k, mechanisms[0]),
            "selection_bias": np.stack([mechanism.bias.numpy() for mechanism in mechanisms], axis=-2).reshape(shape),
            "smoothed_load": smoothed_load,
            "eval_load": evaluation.load.reshape(shape),
            "dropped_by_choice": _dropped_by_choice(routing, rows),
            **self._of_weights(config),
        }
        table = np.empty((runs, row_width(layers, num_experts)))
        _fill(table, values, layers)
        return table

    def swap(self, pair: tuple[int, int]) -> None:
        """Lets the distances that weights have moved follow them to the other expert."""
        order = np.arange(self._num_experts)
        order[list(pair)] = pair[::-1]
        self._initial, self._last = self._initial[:, order], self._last[:, order]
        self._initial_norms, self._last_norms = self._initial_norms[:, order], self._last_norms[:, order]

    def _of_weights(self, config: RunConfig) -> dict[str, np.ndarray | float]:
        """How far the experts' weights have moved, and what moved them."""
        before, norms_before, layers = self._last, self._last_norms, self._expert_weights
        self._last = weights = _flat_per_expert(layers)
        self._last_norms = _norms(weights)
        difference = np.subtract(weights, before, out=before if before is not self._initial else None)
        change = _norms(difference) / norms_before
        distance = _norms(np.subtract(weights, self._initial, out=difference)) / self._initial_norms
        gradients = [[weight.grad for weight in parameters if weight.grad is not None] for parameters in layers]
        # A frozen step has no gradients, but the tensors still hold those of the last update.
        moves = not config.frozen and all(gradients)
        return {
            "grad_norm": _norms(_flat_per_expert(gradients, out=difference)) if moves else np.zeros(change.shape),
            "weight_change": change,
            "weight_distance": distance,
        }

    def _update_joint(self, groups: np.ndarray, routing: Routing) -> np.ndarray:
        """(R · L, G, E) smoothed, over the tokens that have a first choice."""
        rows, num_experts = len(groups), self._num_experts
        cells = self.joint.value.shape[1]
        cell = groups * num_experts + routing.expert_index[..., 0].numpy().reshape(rows, -1)
        present = None if routing.assigned is None else routing.assigned[..., :1].numpy().reshape(rows, -1, 1)
        joint = count_experts(cell[..., None], present, cells)
        return self.joint.update(joint / joint.sum(1, keepdims=True)).reshape(rows, -1, num_experts)

    def _update_together(self, routing: Routing) -> None:
        tokens, slots = routing.expert_index.shape[-2:]
        index = routing.expert_index.numpy().reshape(-1, tokens, slots)
        has_TE = np.zeros((len(index), tokens, self._num_experts), dtype=np.float32)
        if routing.assigned is None:
            np.put_along_axis(has_TE, index, 1.0, axis=2)
        else:  # an empty slot may name an expert that the token has
            row, token, slot = np.nonzero(routing.assigned.numpy().reshape(index.shape))
            has_TE[row, token, index[row, token, slot]] = 1.0
        both = np.matmul(has_TE.transpose(0, 2, 1), has_TE)
        self.together.update(both.reshape(len(index), -1).astype(np.float64) / tokens)


def _preferred_load(routing: Routing, load: np.ndarray, top_k: int, balancing: Balancing) -> np.ndarray:
    """The load of the router's own top-k, without noise and without the mechanism."""
    if routing.noisy_logits is routing.logits and not balancing.selects():
        return load
    chosen = top_choices(routing.logits.detach(), top_k).expert_index.numpy()
    return count_experts(chosen, None, load.shape[1]).reshape(load.shape) / (chosen.size / len(load))


def _dropped_by_choice(routing: Routing, rows: int) -> np.ndarray:
    """(R · L, MOST_CHOICES) the share of the first, second … choices that capacity drops."""
    shares = np.zeros((rows, MOST_CHOICES))
    if routing.kept is not None:
        dropped = ~routing.kept if routing.assigned is None else routing.assigned & ~routing.kept
        by_slot = dropped.numpy().reshape(rows, -1, dropped.shape[-1]).mean(1)[:, :MOST_CHOICES]
        shares[:, : by_slot.shape[1]] = by_slot
    return shares


def _numbers(
    layers: Sequence[Tensor] | None, measure: Callable[[Tensor], np.ndarray] = lambda values: values.detach().numpy()
) -> np.ndarray | float:  # fmt: skip
    """(R · L,) what is measured of each layer, of a scalar or (R,); 0 for None."""
    return 0.0 if layers is None else np.stack([measure(values) for values in layers], axis=-1).ravel()


def _means(values: float | Tensor, rows: int) -> np.ndarray | float:
    return values.detach().reshape(rows, -1).mean(1).numpy() if isinstance(values, Tensor) else values


def _entropies(probs: Tensor) -> np.ndarray:
    """(R · L,) or a scalar: the mean normalized entropy of the tokens' probabilities."""
    entropy = torch.special.entr(probs.detach()).sum(-1).mean(-1) / math.log(probs.shape[-1])
    return entropy.numpy()


def _lengths(gradient: Tensor) -> np.ndarray:
    return torch.linalg.vector_norm(gradient, dim=(-2, -1)).numpy()


def _cosines(gradients: RouterGradients) -> np.ndarray | float:
    """NaN if either is missing or 0."""
    if gradients.task is None or gradients.balance is None:
        return np.nan
    pairs = zip(gradients.task, gradients.balance, strict=True)
    return np.stack([_cosine(one, other) for one, other in pairs], axis=-1).ravel()


def _cosine(one: Tensor, other: Tensor) -> np.ndarray:
    lengths = torch.linalg.vector_norm(one, dim=(-2, -1)) * torch.linalg.vector_norm(other, dim=(-2, -1))
    return ((one * other).sum((-2, -1)) / torch.where(lengths > 0, lengths, torch.nan)).numpy()


def _fill(table: np.ndarray, values: dict[str, np.ndarray | float], layers: int) -> None:
    """Fills (R, width) rows of histories from rows for each layer of each run."""
    runs, num_experts = len(table), np.shape(values["load"])[1]
    positions = column_positions(layers, num_experts)
    if layers == 1:
        for name, position in positions.items():
            table[:, position] = values[name]
        return
    of_layers = np.empty((len(OF_LAYERS), runs * layers))
    for row, name in zip(of_layers, OF_LAYERS, strict=True):
        row[:] = values[name]
    by_layer = of_layers.reshape(-1, runs, layers)
    means, worst = by_layer.mean(-1), by_layer.max(-1)
    for number, name in enumerate(OF_LAYERS):
        table[:, positions[name]] = (worst if name in WORST else means)[number]
        table[:, positions[name + BY_LAYER]] = by_layer[number]
    for name in (*SCALARS, *PER_EXPERT, *PER_CHOICE):
        if name not in OF_LAYERS:
            value = values[name]
            table[:, positions[name]] = value if name in SCALARS else np.reshape(value, (runs, -1))


def _expert_weights(layers: Sequence[MoE]) -> list[tuple[Tensor, ...]]:
    return [tuple(moe.experts.parameters()) for moe in layers]


def _flat_per_expert(layers: Sequence[Sequence[Tensor]], out: np.ndarray | None = None) -> np.ndarray:
    """All weights of each expert side by side: of each layer, (R, E, …) or (E, …) tensors → (R · L, E, n), a copy, in
    `out` if it is given and large enough."""
    parts = [[tensor.detach().flatten(-2).numpy() for tensor in tensors] for tensors in layers]
    *leading, num_experts, _ = parts[0][0].shape
    size = sum(part.shape[-1] for part in parts[0])
    shape = (*leading, len(layers), num_experts, size)
    flat = np.empty(shape, np.float32) if out is None or out.size != math.prod(shape) else out.reshape(shape)
    for layer, of_layer in enumerate(parts):
        np.concatenate(of_layer, axis=-1, out=flat[..., layer, :, :])
    return flat.reshape(-1, num_experts, size)


def _norms(rows: np.ndarray) -> np.ndarray:
    """Euclidean norm of each row, (R · L, E, n) → (R · L, E)."""
    return np.sqrt(np.einsum("rij,rij->ri", rows, rows), dtype=np.float64)
