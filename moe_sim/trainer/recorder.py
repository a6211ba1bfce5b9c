"""Recording of training steps: tensors in, rows of a history out.

R runs that are computed together, 1 or more; T tokens, E experts, K choices per token, G groups.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from moe_sim import metrics
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import MOST_CHOICES, column_positions, row_width
from moe_sim.history.smoothed import Smoothed
from moe_sim.router.balancing import Balancing
from moe_sim.router.routing import Routing, count_experts
from moe_sim.router.selection import top_choices
from moe_sim.trainer.network import Experts

SMOOTHED = ("_load", "joint", "together")
"""The attributes of `Recorder` that are averages over steps."""


@dataclass(frozen=True, eq=False)
class StepLosses:
    """The losses of a step, (R,), or scalars of a single run."""

    task: Tensor
    auxiliary: Tensor | None
    """The loss that α weighs, before weighting; None if the mechanism has no loss."""
    z: Tensor
    total: Tensor


@dataclass(frozen=True, eq=False)
class RouterGradients:
    """Gradients on the router's weights, (R, D, E) or (D, E); None where there is none."""

    task: Tensor | None = None
    balance: Tensor | None = None
    """Of the balancing loss, before weighting."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Task loss, (R,), and load, (R, E), of held-out tokens in inference; NaN for runs that were not evaluated."""

    task_loss: np.ndarray
    load: np.ndarray


class Recorder:
    """Makes the records of runs and keeps the state that spans steps."""

    def __init__(self, experts: Experts, groups: int) -> None:
        self._expert_weights = tuple(experts.parameters())
        self._initial = self._last = _flat_per_expert(self._expert_weights)
        self._initial_norms = self._last_norms = _norms(self._initial)
        self._num_experts = num_experts = self._initial.shape[1]
        self._load = Smoothed(1, num_experts)
        self.joint = Smoothed(1, groups * num_experts)
        """(R, G·E) smoothed shares of tokens by group and first choice."""
        self.together = Smoothed(1, num_experts * num_experts)
        """(R, E·E) smoothed shares of tokens that have both experts."""

    @classmethod
    def stack(cls, recorders: Sequence[Self], experts: Experts) -> Self:
        """Returns one recorder for the runs of all, whose experts are stacked in the same order."""
        whole = copy.copy(recorders[0])
        whole._expert_weights = tuple(experts.parameters())
        for name in ("_initial", "_last", "_initial_norms", "_last_norms"):
            setattr(whole, name, np.concatenate([getattr(recorder, name) for recorder in recorders]))
        for name in SMOOTHED:
            setattr(whole, name, Smoothed.stack([getattr(recorder, name) for recorder in recorders]))
        return whole

    def unstack(self, index: int, recorder: Self) -> None:
        """Brings a recorder of a stack up to date."""
        run = slice(index, index + 1)
        recorder._last, recorder._last_norms = self._last[run].copy(), self._last_norms[run].copy()
        for name in SMOOTHED:
            getattr(self, name).unstack(index, getattr(recorder, name))

    def record(
        self, steps: np.ndarray, config: RunConfig, balancing: Balancing, groups: Tensor, routing: Routing,
        loss: StepLosses, gradients: RouterGradients, evaluation: Evaluation,
    ) -> np.ndarray:  # fmt: skip
        """Records a step of each run after its update.

        Args:
            steps: (R,) their numbers, 1 for the first.
            config: what the runs have in common of their configuration.
            balancing: the mechanism, in the state in which it selected experts.
            groups: (T,) or (R, T), the group of each token.
            routing: where the tokens went.
            loss: the losses.
            gradients: the gradients on the routers' weights.
            evaluation: the evaluation after the update.

        Returns:
            (R, width), a row for each run's `History.extend`.
        """
        runs, num_experts = len(steps), self._num_experts
        shape = (runs, num_experts)
        chosen = routing.chosen().reshape(shape)
        pairs = chosen.sum(1, keepdims=True)
        load, processed = chosen / pairs, routing.processed().reshape(shape)
        first = routing.first_chosen().reshape(shape)
        probs = routing.probs.detach().numpy().reshape(runs, -1, num_experts)
        importance = probs.mean(1, dtype=np.float64)
        logits = routing.logits.detach().numpy().reshape(runs, -1)
        smoothed_load = self._load.update(load)
        smoothed_joint = self._update_joint(groups.numpy().reshape(runs, -1), routing)
        self._update_together(routing)
        values = {
            "step": steps,
            "task_loss": _numbers(loss.task),
            "balance_loss": num_experts * (load * importance).sum(1),
            "auxiliary_loss": _numbers(loss.auxiliary),
            "z_loss": _numbers(loss.z),
            "imbalance_ratio": metrics.imbalance_ratio(load),
            "max_violation": metrics.max_violation(load),
            "load_cv": metrics.coefficient_of_variation(load),
            "load_entropy": metrics.normalized_entropy(load),
            "dead_experts": metrics.dead_experts(smoothed_load),
            "dropped_fraction": 1 - processed.sum(1) / pairs[:, 0],
            "unserved_fraction": 1 - routing.served().reshape(runs, -1).mean(1),
            "efficiency": metrics.parallel_efficiency(load),
            "specialization": metrics.normalized_mutual_information(smoothed_joint),
            "router_entropy": _entropies(routing.probs),
            "router_logit_rms": np.sqrt(np.square(logits).mean(1, dtype=np.float64)),
            "router_logit_max": np.abs(logits).max(1),
            "router_noise_std": _means(routing.noise_std, runs),
            "router_task_gradient": _lengths(gradients.task),
            "router_balance_gradient": _lengths(gradients.balance),
            "router_gradient_cosine": _cosines(gradients.task, gradients.balance),
            "eval_task_loss": evaluation.task_loss,
            "load": load,
            "first_load": first / first.sum(1, keepdims=True),
            "importance": importance,
            "processed": processed / pairs,
            "preferred_load": _preferred_load(routing, load, config.top_k, balancing),
            "selection_bias": balancing.bias.numpy(),
            "smoothed_load": smoothed_load,
            "eval_load": evaluation.load,
            "dropped_by_choice": _dropped_by_choice(routing, runs),
            **self._of_weights(config),
        }
        positions = column_positions(num_experts)
        rows = np.empty((runs, row_width(num_experts)))
        for name, position in positions.items():
            rows[:, position] = values[name]
        return rows

    def swap(self, pair: tuple[int, int]) -> None:
        """Lets the distances that weights have moved follow them to the other expert."""
        order = np.arange(self._num_experts)
        order[list(pair)] = pair[::-1]
        self._initial, self._last = self._initial[:, order], self._last[:, order]
        self._initial_norms, self._last_norms = self._initial_norms[:, order], self._last_norms[:, order]

    def _of_weights(self, config: RunConfig) -> dict[str, np.ndarray | float]:
        """How far the experts' weights have moved, and what moved them."""
        before, norms_before, parameters = self._last, self._last_norms, self._expert_weights
        self._last = weights = _flat_per_expert(parameters)
        self._last_norms = _norms(weights)
        # A frozen step has no gradients, but the tensors still hold those of the last update.
        gradients = [] if config.frozen else [weight.grad for weight in parameters if weight.grad is not None]
        return {
            "grad_norm": _norms(_flat_per_expert(gradients)) if gradients else 0.0,
            "weight_change": _norms(weights - before) / norms_before,
            "weight_distance": _norms(weights - self._initial) / self._initial_norms,
        }

    def _update_joint(self, groups: np.ndarray, routing: Routing) -> np.ndarray:
        """(R, G, E) smoothed, over the tokens that have a first choice."""
        runs, num_experts = len(groups), self._num_experts
        cells = self.joint.value.shape[1]
        cell = groups * num_experts + routing.expert_index[..., 0].numpy().reshape(runs, -1)
        present = None if routing.assigned is None else routing.assigned[..., :1].numpy().reshape(runs, -1, 1)
        joint = count_experts(cell[..., None], present, cells)
        return self.joint.update(joint / joint.sum(1, keepdims=True)).reshape(runs, -1, num_experts)

    def _update_together(self, routing: Routing) -> None:
        tokens, slots = routing.expert_index.shape[-2:]
        index = routing.expert_index.numpy().reshape(-1, tokens, slots)
        has_TE = np.zeros((len(index), tokens, self._num_experts), dtype=np.float32)
        present = 1.0 if routing.assigned is None else routing.assigned.numpy().reshape(index.shape)
        np.put_along_axis(has_TE, index, present, axis=2)
        both = np.matmul(has_TE.transpose(0, 2, 1), has_TE)
        self.together.update(both.reshape(len(index), -1).astype(np.float64) / tokens)


def _preferred_load(routing: Routing, load: np.ndarray, top_k: int, balancing: Balancing) -> np.ndarray:
    """The load of the router's own top-k, without noise and without the mechanism."""
    if routing.noisy_logits is routing.logits and not balancing.selects():
        return load
    chosen = top_choices(routing.logits.detach(), top_k).expert_index.numpy()
    return count_experts(chosen, None, load.shape[1]).reshape(load.shape) / (chosen.size / len(load))


def _dropped_by_choice(routing: Routing, runs: int) -> np.ndarray:
    """(R, MOST_CHOICES) the share of the first, second … choices that capacity drops."""
    shares = np.zeros((runs, MOST_CHOICES))
    if routing.kept is not None:
        dropped = ~routing.kept if routing.assigned is None else routing.assigned & ~routing.kept
        by_slot = dropped.numpy().reshape(runs, -1, dropped.shape[-1]).mean(1)[:, :MOST_CHOICES]
        shares[:, : by_slot.shape[1]] = by_slot
    return shares


def _numbers(values: Tensor | None) -> np.ndarray | float:
    """(R,) or a scalar; 0 for None."""
    return 0.0 if values is None else values.detach().numpy()


def _means(values: float | Tensor, runs: int) -> np.ndarray | float:
    return values.detach().reshape(runs, -1).mean(1).numpy() if isinstance(values, Tensor) else values


def _entropies(probs: Tensor) -> np.ndarray:
    """(R,) or a scalar: the mean normalized entropy of the tokens' probabilities."""
    entropy = torch.special.entr(probs.detach()).sum(-1).mean(-1) / math.log(probs.shape[-1])
    return entropy.numpy()


def _lengths(gradient: Tensor | None) -> np.ndarray | float:
    return 0.0 if gradient is None else torch.linalg.vector_norm(gradient, dim=(-2, -1)).numpy()


def _cosines(one: Tensor | None, other: Tensor | None) -> np.ndarray | float:
    """NaN if either is missing or 0."""
    if one is None or other is None:
        return np.nan
    lengths = torch.linalg.vector_norm(one, dim=(-2, -1)) * torch.linalg.vector_norm(other, dim=(-2, -1))
    return ((one * other).sum((-2, -1)) / torch.where(lengths > 0, lengths, torch.nan)).numpy()


def _flat_per_expert(tensors: Sequence[Tensor]) -> np.ndarray:
    """All weights of each expert side by side: (R, E, …) or (E, …) tensors → (R, E, n), a copy."""
    parts = [tensor.detach().flatten(-2).numpy() for tensor in tensors]
    return np.concatenate([part.reshape(-1, *part.shape[-2:]) for part in parts], axis=2)


def _norms(rows: np.ndarray) -> np.ndarray:
    """Euclidean norm of each row, (R, E, n) → (R, E)."""
    return np.sqrt(np.einsum("rij,rij->ri", rows, rows), dtype=np.float64)
