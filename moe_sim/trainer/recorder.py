"""Recording of training steps: tensors in, one `StepRecord` of plain numbers out.

T tokens, E experts, K choices per token, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_sim import metrics
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import MOST_CHOICES, StepRecord
from moe_sim.history.smoothed import Smoothed
from moe_sim.router.balancing import Balancing
from moe_sim.router.routing import Routing
from moe_sim.router.selection import top_choices
from moe_sim.trainer.network import Experts


@dataclass(frozen=True, eq=False)
class StepLosses:
    """The losses of a step, as scalars."""

    task: Tensor
    auxiliary: Tensor | None
    """The loss that α weighs, before weighting; None if the mechanism has no loss."""
    z: Tensor
    total: Tensor


@dataclass(frozen=True, eq=False)
class RouterGradients:
    """Gradients on the router's weights, (D, E); None where there is none."""

    task: Tensor | None = None
    balance: Tensor | None = None
    """Of the balancing loss, before weighting."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Task loss and load of held-out tokens in inference."""

    task_loss: float
    load: np.ndarray


class Recorder:
    """Makes the records of one run and keeps the state that spans steps."""

    def __init__(self, experts: Experts, groups: int) -> None:
        self._expert_weights = tuple(experts.parameters())
        self._initial = self._last = _flat_per_expert(self._expert_weights)
        self._initial_norms = self._last_norms = _norms(self._initial)
        self._num_experts = num_experts = len(self._initial)
        self._load = Smoothed(num_experts)
        self.joint = Smoothed(groups * num_experts)
        """(G·E,) smoothed shares of tokens by group and first choice."""
        self.together = Smoothed(num_experts * num_experts)
        """(E·E,) smoothed shares of tokens that have both experts."""

    def record(
        self, step: int, config: RunConfig, balancing: Balancing, groups: Tensor, routing: Routing, loss: StepLosses,
        gradients: RouterGradients, evaluation: Evaluation | None,
    ) -> StepRecord:  # fmt: skip
        """Records a step after its update.

        Args:
            step: its number, 1 for the first.
            config: the configuration in force.
            balancing: the mechanism, in the state in which it selected experts.
            groups: (T,) the group of each token.
            routing: where the tokens went.
            loss: its losses.
            gradients: its gradients on the router's weights.
            evaluation: the evaluation after the update, if there was one.
        """
        num_experts = self._num_experts
        chosen = routing.chosen()
        load = np.bincount(chosen, minlength=num_experts) / chosen.size
        processed = load
        if routing.kept is not None:
            processed = np.bincount(routing.processed(), minlength=num_experts) / chosen.size
        probs = routing.probs.detach().numpy()
        importance = probs.mean(0, dtype=np.float64)
        logits = routing.logits.detach().numpy()
        smoothed_load = self._load.update(load)
        smoothed_joint = self._update_joint(groups.numpy(), routing)
        self._update_together(routing)
        weights, before, norms_before = _flat_per_expert(self._expert_weights), self._last, self._last_norms
        self._last, self._last_norms = weights, _norms(weights)
        # A frozen step has no gradients, but the tensors still hold those of the last update.
        frozen, parameters = config.frozen, self._expert_weights
        expert_gradients = [] if frozen else [weight.grad for weight in parameters if weight.grad is not None]
        return StepRecord(
            step=step,
            task_loss=loss.task.item(),
            balance_loss=float(num_experts * (load @ importance)),
            auxiliary_loss=0.0 if loss.auxiliary is None else loss.auxiliary.item(),
            z_loss=loss.z.item(),
            imbalance_ratio=float(metrics.imbalance_ratio(load)),
            max_violation=float(metrics.max_violation(load)),
            load_cv=float(metrics.coefficient_of_variation(load)),
            load_entropy=float(metrics.normalized_entropy(load)),
            dead_experts=int(metrics.dead_experts(smoothed_load)),
            dropped_fraction=1 - routing.processed().size / chosen.size,
            unserved_fraction=float(1 - routing.served().mean()),
            efficiency=float(metrics.parallel_efficiency(load)),
            specialization=float(metrics.normalized_mutual_information(smoothed_joint)),
            router_entropy=float(metrics.normalized_entropy(probs).mean()),
            router_logit_rms=float(np.sqrt(np.square(logits).mean(dtype=np.float64))),
            router_logit_max=float(np.abs(logits).max()),
            router_noise_std=_mean(routing.noise_std),
            router_task_gradient=_norm(gradients.task),
            router_balance_gradient=_norm(gradients.balance),
            router_gradient_cosine=_cosine(gradients.task, gradients.balance),
            eval_task_loss=np.nan if evaluation is None else evaluation.task_loss,
            load=load,
            first_load=_first_load(routing, num_experts),
            importance=importance,
            processed=processed,
            preferred_load=_preferred_load(routing, load, config.top_k, balancing),
            selection_bias=balancing.bias.numpy().copy(),
            grad_norm=_norms(_flat_per_expert(expert_gradients)) if expert_gradients else np.zeros(num_experts),
            weight_change=_norms(weights - before) / norms_before,
            weight_distance=_norms(weights - self._initial) / self._initial_norms,
            smoothed_load=smoothed_load,
            eval_load=np.full(num_experts, np.nan) if evaluation is None else evaluation.load,
            dropped_by_choice=_dropped_by_choice(routing),
        )

    def swap(self, pair: tuple[int, int]) -> None:
        """Lets the distances that weights have moved follow them to the other expert."""
        order = np.arange(self._num_experts)
        order[list(pair)] = pair[::-1]
        self._initial, self._last = self._initial[order], self._last[order]
        self._initial_norms, self._last_norms = self._initial_norms[order], self._last_norms[order]

    def _update_joint(self, groups: np.ndarray, routing: Routing) -> np.ndarray:
        """(G, E) smoothed, over the tokens that have a first choice."""
        first = routing.expert_index[:, 0].numpy()
        if routing.assigned is not None:
            has_one = routing.assigned[:, 0].numpy()
            groups, first = groups[has_one], first[has_one]
        joint = np.bincount(groups * self._num_experts + first, minlength=self.joint.value.size)
        return self.joint.update(joint / len(first)).reshape(-1, self._num_experts)

    def _update_together(self, routing: Routing) -> None:
        tokens, slots = routing.expert_index.shape
        has_TE = np.zeros((tokens, self._num_experts), dtype=np.float32)
        present = np.ones((tokens, slots)) if routing.assigned is None else routing.assigned.numpy()
        np.put_along_axis(has_TE, routing.expert_index.numpy(), present, axis=1)
        self.together.update((has_TE.T @ has_TE).ravel().astype(np.float64) / tokens)


def _first_load(routing: Routing, num_experts: int) -> np.ndarray:
    first = routing.expert_index[:, 0]
    if routing.assigned is not None:
        first = first[routing.assigned[:, 0]]
    return np.bincount(first.numpy(), minlength=num_experts) / len(first)


def _preferred_load(routing: Routing, load: np.ndarray, top_k: int, balancing: Balancing) -> np.ndarray:
    """The load of the router's own top-k, without noise and without the mechanism."""
    if routing.noisy_logits is routing.logits and not balancing.selects():
        return load
    chosen = top_choices(routing.logits.detach(), top_k).expert_index.numpy().ravel()
    return np.bincount(chosen, minlength=len(load)) / chosen.size


def _dropped_by_choice(routing: Routing) -> np.ndarray:
    """(MOST_CHOICES,) the share of the first, second … choices that capacity drops."""
    shares = np.zeros(MOST_CHOICES)
    if routing.kept is not None:
        dropped = ~routing.kept if routing.assigned is None else routing.assigned & ~routing.kept
        by_slot = dropped.numpy().mean(0)[:MOST_CHOICES]
        shares[: len(by_slot)] = by_slot
    return shares


def _mean(value: float | Tensor) -> float:
    return value.mean().item() if isinstance(value, Tensor) else value


def _norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else gradient.norm().item()


def _cosine(one: Tensor | None, other: Tensor | None) -> float:
    """NaN if either is missing or 0."""
    if one is None or other is None:
        return np.nan
    lengths = one.norm() * other.norm()
    return (torch.sum(one * other) / lengths).item() if lengths > 0 else np.nan


def _flat_per_expert(tensors: Sequence[Tensor]) -> np.ndarray:
    """All weights of each expert side by side: (E, …) tensors → (E, n), a copy."""
    return np.concatenate([tensor.detach().flatten(1).numpy() for tensor in tensors], axis=1)


def _norms(rows: np.ndarray) -> np.ndarray:
    """Euclidean norm of each row, (E, n) → (E,)."""
    return np.sqrt(np.einsum("ij,ij->i", rows, rows), dtype=np.float64)
