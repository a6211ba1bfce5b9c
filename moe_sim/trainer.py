"""One optimizer step at a time: a run from its configuration to its history.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moe_sim import balancing, losses, metrics
from moe_sim.config import RunConfig
from moe_sim.history import Event, History, StepRecord
from moe_sim.knobs import KNOBS
from moe_sim.model import Network
from moe_sim.optimizer import Adam
from moe_sim.router import Routing
from moe_sim.tasks import HeldOut, Task, generators
from moe_sim.text import Text
from moe_sim.topics import Topics

TASKS: dict[str, Callable[[RunConfig, torch.Generator, torch.Generator], Task]] = {"topics": Topics, "text": Text}

LARGEST_LOSS = 103.0
"""Nats. Beyond it the mean token's label has a probability that float32 cannot tell from 0 (smallest: e^−103.3)."""


@dataclass(frozen=True)
class Probe:
    """How the held-out tokens are routed after `step` steps: evaluation, so no noise, but the capacity limit."""

    step: int
    expert: np.ndarray
    """(N,) the first-choice expert of each held-out token."""
    dropped: np.ndarray
    """(N,) bool, capacity left no expert for the token."""
    joint: np.ndarray
    """(G, E) smoothed shares of training tokens by group and first choice; sums to 1, or to 0 at step 0."""

    def group_shares(self) -> np.ndarray:
        """(G, E) which share of a group's tokens goes to each expert first; a row of zeros for a group not yet seen."""
        total = self.joint.sum(1, keepdims=True)
        return np.divide(self.joint, total, out=np.zeros_like(self.joint), where=total > 0)


class Trainer:
    """Trains one small MoE network. The same configuration and the same updates at the same steps give the same
    numbers on one machine; data order and initial weights depend on the seed and on structural knobs only."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        random = generators(config.seed)
        self._data, self._noise = random["data"], random["noise"]
        self.task: Task = TASKS[config.task](config, random["task"], random["held_out"])
        weights = random["weights"]
        self.network = Network(self.task.stem(weights), self.task.width, self.task.classes, config, weights)
        self._optimizer = Adam(self.network.parameters())
        self._experts = tuple(self.network.moe.experts.parameters())
        self.history = History(config)
        self.diverged = False
        """True once a loss or gradient was not finite, or the task loss above `LARGEST_LOSS`; weights and history then
        stay as they were."""
        self._smoothed_load = Smoothed(config.num_experts)
        self._smoothed_joint = Smoothed(len(self.task.group_names) * config.num_experts)

    @property
    def steps_done(self) -> int:
        """Optimizer steps so far."""
        return len(self.history)

    @property
    def held_out(self) -> HeldOut:
        """The tokens of the routing map."""
        return self.task.held_out

    def update(self, **changes: Any) -> None:
        """Move live knobs; they act from the next step on.

        Raises:
            ValueError: for a structural or unknown knob, naming it, and for a value that is not allowed. Nothing has
                changed then.
        """
        for name in changes:
            if name not in KNOBS:
                raise ValueError(f"there is no knob named {name!r}")
            if not KNOBS[name].live:
                raise ValueError(f"{name} is structural: it needs a new run and cannot change in a running one")
        config = self.config.replace(**changes)
        changed = {
            name: getattr(config, name) for name in changes if getattr(config, name) != getattr(self.config, name)
        }
        if changed:
            self.config = config
            self.history.record_event(Event(self.steps_done, changed))

    def run(self, steps: int) -> History:
        """Train for `steps` steps, fewer if the run diverges. Returns the history that the trainer keeps."""
        for _ in range(steps):
            if self.diverged:
                break
            self.step()
        return self.history

    def step(self) -> StepRecord | None:
        """One optimizer step on a fresh batch.

        Returns:
            Its record; None if the run has diverged, in this call or before.
        """
        if self.diverged:
            return None
        config = self.config

        # Forward: the batch through router, experts and head.
        batch = self.task.batch(config.batch_tokens, self._data)
        logits, routing = self.network(batch.inputs, config, self._noise)

        # Losses: the task's, the balancing loss weighted by α, and the z-loss.
        task_loss = F.cross_entropy(logits, batch.labels)
        z_loss = losses.router_z_loss(router_logits=routing.logits)
        auxiliary_loss = balancing.LOSSES[config.balancing](routing)
        total = task_loss
        if config.aux_loss_coef and auxiliary_loss.requires_grad:
            total = total + config.aux_loss_coef * auxiliary_loss
        if config.z_loss_coef:
            total = total + config.z_loss_coef * z_loss

        # Backward. A step that has diverged is not taken.
        self._optimizer.zero_grad()
        total.backward()
        if not (torch.isfinite(total) and task_loss < LARGEST_LOSS and self._gradients_are_finite()):
            self.diverged = True
            return None

        # Update, and how far each expert's weights moved.
        before = [weight.detach().clone() for weight in self._experts]
        self._optimizer.step(config.learning_rate)

        record = self._record(batch.groups, routing, task_loss, auxiliary_loss, z_loss, before)
        self.history.append(record)
        return record

    def probe(self) -> Probe:
        """Route the held-out tokens with the weights of now."""
        moe, batch = self.network.moe, self.held_out.batch
        with torch.no_grad():
            routing = moe.route(self.network.stem(batch.inputs), self.config, None)
        dropped = torch.zeros(len(batch.labels), dtype=torch.bool) if routing.kept is None else ~routing.kept.any(1)
        joint = self._smoothed_joint.value.reshape(len(self.task.group_names), -1)
        return Probe(self.steps_done, routing.expert_index[:, 0].numpy(), dropped.numpy(), joint)

    def _gradients_are_finite(self) -> bool:
        norms = torch._foreach_norm([p.grad for p in self.network.parameters() if p.grad is not None])
        return bool(torch.isfinite(torch.stack(norms)).all())

    def _record(
        self, groups: Tensor, routing: Routing, task_loss: Tensor, auxiliary_loss: Tensor, z_loss: Tensor,
        before: list[Tensor],
    ) -> StepRecord:  # fmt: skip
        num_experts = self.config.num_experts
        probs = routing.probs.detach().numpy()
        chosen = routing.expert_index.numpy()
        load = np.bincount(chosen.ravel(), minlength=num_experts) / chosen.size
        processed = load
        if routing.kept is not None:
            processed = np.bincount(chosen[routing.kept.numpy()], minlength=num_experts) / chosen.size
        importance = probs.mean(0, dtype=np.float64)
        joint = np.bincount(groups.numpy() * num_experts + chosen[:, 0], minlength=self._smoothed_joint.value.size)
        smoothed_load = self._smoothed_load.update(load)
        smoothed_joint = self._smoothed_joint.update(joint / len(chosen)).reshape(-1, num_experts)
        after = [weight.detach() for weight in self._experts]
        gradients = [weight.grad for weight in self._experts if weight.grad is not None]
        moved = _norms([new - old for new, old in zip(after, before, strict=True)])
        return StepRecord(
            step=self.steps_done + 1,
            task_loss=task_loss.item(),
            balance_loss=float(num_experts * (load @ importance)),
            auxiliary_loss=auxiliary_loss.item(),
            z_loss=z_loss.item(),
            imbalance_ratio=float(metrics.imbalance_ratio(load)),
            max_violation=float(metrics.max_violation(load)),
            load_cv=float(metrics.coefficient_of_variation(load)),
            load_entropy=float(metrics.normalized_entropy(load)),
            dead_experts=int(metrics.dead_experts(smoothed_load)),
            dropped_fraction=float(load.sum() - processed.sum()),
            efficiency=float(metrics.parallel_efficiency(load)),
            specialization=float(metrics.normalized_mutual_information(smoothed_joint)),
            router_entropy=float(metrics.normalized_entropy(probs).mean()),
            load=load,
            importance=importance,
            processed=processed,
            grad_norm=_norms(gradients),
            weight_change=moved / _norms(before),
            smoothed_load=smoothed_load,
        )


class Smoothed:
    """Exponential moving average with a horizon of `metrics.SMOOTHING_HORIZON` steps, bias-corrected: the first value
    counts fully, as in pandas' `ewm(alpha=1/20, adjust=True).mean()`."""

    def __init__(self, size: int) -> None:
        self.value = np.zeros(size)
        self._weight = 0.0

    def update(self, value: np.ndarray) -> np.ndarray:
        """Take in the newest value; returns the average, an array of its own."""
        keep = 1 - 1 / metrics.SMOOTHING_HORIZON
        self._weight = keep * self._weight + 1
        self.value = self.value + (value - self.value) / self._weight
        return self.value


def _norms(tensors: list[Tensor]) -> np.ndarray:
    """Euclidean norm over all tensors for each index of their first axis: (E,)."""
    squares = [np.einsum("ij,ij->i", flat, flat) for flat in (t.flatten(1).numpy() for t in tensors)]
    return np.sqrt(np.sum(squares, axis=0, dtype=np.float64))
