"""Training steps: of one run, or of many runs in one batched computation.

Small runs cost mostly the calls into torch and NumPy, of which a batch makes as many as one run.

R runs, T tokens, E experts, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import COARSE
from moe_sim.losses import router_z_each
from moe_sim.router.routing import Routing
from moe_sim.tasks.task import Batch
from moe_sim.trainer import interventions
from moe_sim.trainer.network import Network
from moe_sim.trainer.optimizer import Adam
from moe_sim.trainer.recorder import Evaluation, Recorder, RouterGradients, StepLosses

if TYPE_CHECKING:
    from moe_sim.trainer.trainer import Trainer

LARGEST_LOSS = 103.0
"""Nats. Above it, the average label has a probability that float32 cannot tell from 0 (smallest: e^−103.3)."""
MOST_TOGETHER = 24
MOST_PAIRS = 8192
"""Of token and expert, in all runs of one computation. More are no faster."""
MOST_HIDDEN = 16_384
"""Hidden units of all experts in all runs of one computation, which bounds its memory: about 50 MB."""
FREE = frozenset({
    "seed", "aux_loss_coef", "z_loss_coef", "learning_rate", "warmup_steps", "topic_skew", "topic_shift",
    "shared_direction", "domain_mix", "swap_columns", "swap_weights", "router_init", "expert_init",
})  # fmt: skip
"""Knobs in which runs that are computed together may differ, except that the z-loss counts in all of them or in
none."""

Value = TypeVar("Value")
_trains = torch.inference_mode(mode=False)
"""For what makes tensors for training, even if called under `torch.inference_mode()`."""


def advance(trainers: Iterable[Trainer], steps: int) -> None:
    """Trains each of many runs for `steps` steps, fewer if it diverges.

    Runs of one shape are computed together, several times faster than one after the other. The numbers are the same to
    the last digit. Runs have one shape if their configurations differ only in `FREE` knobs.

    Raises:
        ValueError: for a negative number of steps.
    """
    if steps < 0:
        raise ValueError(f"steps must be 0 or more, not {steps}")
    shapes: dict[Any, list[Trainer]] = {}
    for trainer in dict.fromkeys(trainers):
        shapes.setdefault(shape_of(trainer.config), []).append(trainer)
    for alike in shapes.values():
        most = most_together(alike[0].config)
        for first in range(0, len(alike), most):
            for _ in stepping(alike[first : first + most], steps):
                pass


def stepping(trainers: Sequence[Trainer], steps: int) -> Generator[Together]:
    """Trains runs of one shape together and yields them after each step, so that the caller may look at them or end."""
    trainers = [trainer for trainer in trainers if not trainer.diverged]
    while steps and trainers:
        together = Together(trainers)
        try:
            while steps and together.step():
                steps -= 1
                yield together
        finally:
            together.release()
        if steps and len(trainers) == 1:
            trainers[0].diverged = True
        elif steps:  # one of them cannot take this step: each takes it alone
            for trainer in trainers:
                yield from stepping([trainer], 1)
            steps -= 1
        trainers = [trainer for trainer in trainers if not trainer.diverged]


def most_together(config: RunConfig) -> int:
    """The most runs of this shape that one computation takes."""
    pairs, hidden = config.batch_tokens * config.top_k, config.num_experts * config.expert_hidden_size
    return max(1, min(MOST_PAIRS // pairs, MOST_HIDDEN // hidden, MOST_TOGETHER))


def shape_of(config: RunConfig) -> tuple[Any, ...]:
    """What configurations must have in common for their runs to be computed together."""
    fixed = (value for name, value in config if name not in FREE)
    return (*fixed, config.z_loss_coef > 0)


class Together:
    """Runs of one shape as one computation: their weights and other state, stacked. A single run is not stacked.

    After a step, the trainers of several runs are out of date until `settle` or `release`.
    """

    @_trains
    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = trainers
        first = trainers[0]
        self._config = first.config
        """What all runs have in common."""
        self._single = len(trainers) == 1
        self._task = self._of(lambda one: one.task, type(first.task).stack)
        self._network = self._of(lambda one: one.network, Network.stack)
        self._balancing = self._of(lambda one: one.balancing, type(first.balancing).stack)
        self._optimizer = self._of(
            lambda one: one.optimizer, lambda parts: Adam.stack(parts, self._network.parameters())
        )
        self._recorder = self._of(
            lambda one: one.recorder, lambda parts: Recorder.stack(parts, self._network.moe.experts)
        )
        self._shares = self._of(lambda one: one.shares, torch.stack)
        self._direction = self._of(lambda one: one.direction, torch.stack) if self._config.router_blind else None
        self._data = self._of(lambda one: one.random["data"], list)
        self._noise = self._of(lambda one: one.random["noise"], list)
        self._weighs_auxiliary = any(trainer.config.aux_loss_coef for trainer in trainers)
        self._alpha = self._of(lambda one: one.config.aux_loss_coef, torch.tensor)
        self._z_coef = self._of(lambda one: one.config.z_loss_coef, torch.tensor)

    @_trains
    def step(self) -> bool:
        """Takes one step of every run. Returns False, with all runs as they were before, if one of them diverges, or if
        one of several fails."""
        config = self._config
        generators = [] if self._single else [*self._data, *self._noise]
        states = [generator.get_state() for generator in generators]
        try:
            computed = self._compute()
        except Exception:
            if self._single:
                raise
            computed = None
        if computed is None:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
            return False

        batch, routing, loss, gradients = computed
        if not config.frozen:
            self._update_weights()
        steps = np.array([trainer.steps_done + 1 for trainer in self.trainers])
        rows = self._recorder.record(
            steps, config, self._balancing, batch.groups, routing, loss, gradients, self._evaluate(steps)
        )
        for trainer, row in zip(self.trainers, rows, strict=True):
            trainer.history.extend(row[None])
        if not config.frozen:
            load = routing.chosen()
            self._balancing.after_step(load / load.sum(-1, keepdims=True), config)
        return True

    def settle(self, index: int) -> Trainer:
        """Brings the trainer of one run up to date and returns it."""
        trainer = self.trainers[index]
        if not self._single:
            self._network.unstack(index, trainer.network)
            self._optimizer.unstack(index, trainer.optimizer)
            self._recorder.unstack(index, trainer.recorder)
            self._balancing.unstack(index, trainer.balancing)
        return trainer

    def release(self) -> None:
        """Brings all trainers up to date."""
        for index in range(len(self.trainers)):
            self.settle(index)

    def _compute(self) -> tuple[Batch, Routing, StepLosses, RouterGradients] | None:
        """A batch forward through router, experts and head, and backward. Returns None if a run diverges."""
        config = self._config
        batch = self._task.batch(config.batch_tokens, self._shares, self._data)
        with torch.set_grad_enabled(not config.frozen):
            logits, routing = self._network(batch.inputs, config, self._balancing, noise=self._noise)
            loss = self._losses(logits, batch.labels, routing)
        gradients = RouterGradients() if config.frozen else self._gradients(loss)
        return None if gradients is None else (batch, routing, loss, gradients)

    def _of(self, part: Callable[[Trainer], Value], stack: Callable[[list[Value]], Any]) -> Any:
        """A part of the only run, or the parts of all runs, stacked."""
        parts = [part(trainer) for trainer in self.trainers]
        return parts[0] if self._single else stack(parts)

    def _losses(self, logits: Tensor, labels: Tensor, routing: Routing) -> StepLosses:
        """The task loss, the loss that α weighs, the z-loss, and the total that is optimized."""
        config = self._config
        task = _cross_entropy(logits, labels)
        auxiliary = self._balancing.loss(routing, config)
        z = router_z_each(routing.logits)
        total = task
        if self._weighs_auxiliary and auxiliary is not None:
            total = total + self._alpha * auxiliary
        if config.z_loss_coef:
            total = total + self._z_coef * z
        return StepLosses(task, auxiliary, z, total)

    def _gradients(self, loss: StepLosses) -> RouterGradients | None:
        """Computes all gradients. Returns None if a run diverged."""
        config, router_weight = self._config, self._network.moe.router.weight
        self._optimizer.zero_grad()
        balance = _gradient(loss.auxiliary, router_weight)
        z = _gradient(loss.z, router_weight) if config.z_loss_coef else None
        loss.total.sum().backward()
        if not (torch.isfinite(loss.total) & (loss.task < LARGEST_LOSS)).all() or not self._gradients_are_finite():
            return None
        # The total's gradient minus those of the other losses is that of the task.
        task = router_weight.grad.detach().clone()
        if balance is not None:
            task -= _per_run(self._alpha) * balance
        if z is not None:
            task -= _per_run(self._z_coef) * z
        return RouterGradients(task, balance)

    def _gradients_are_finite(self) -> bool:
        norms = torch._foreach_norm([p.grad for p in self._network.parameters() if p.grad is not None])
        return bool(torch.isfinite(torch.stack(norms)).all())

    def _update_weights(self) -> None:
        config = self._config
        for part, parameters in self._network.parts().items():
            if getattr(config, f"frozen_{part}"):
                for parameter in parameters:
                    parameter.grad = None
        rates = [trainer.next_learning_rate() for trainer in self.trainers]
        self._optimizer.step(rates[0] if self._single else rates)
        if self._direction is not None:
            interventions.make_blind(self._network.moe.router, self._direction)

    def _evaluate(self, steps: np.ndarray) -> Evaluation:
        """Evaluates held-out tokens as in inference, once every 10 steps: no noise, no capacity limit, each token by
        itself."""
        task_loss, load = np.full(len(steps), np.nan), np.full((len(steps), self._config.num_experts), np.nan)
        due = np.flatnonzero(steps % COARSE == 0)
        if not due.size:
            return Evaluation(task_loss, load)
        network, balancing = self._network, self._balancing
        batches = [self.trainers[index].evaluation_batch for index in due.tolist()]
        inputs, labels = batches[0].inputs, batches[0].labels
        if not self._single:
            network, balancing = network.only(due), balancing.only(due)
            inputs, labels = torch.stack([one.inputs for one in batches]), torch.stack([one.labels for one in batches])
        with torch.no_grad():
            logits, routing = network(inputs, self._config, balancing, inference=True)
            task_loss[due] = _cross_entropy(logits, labels).numpy()
        chosen = routing.chosen()
        load[due] = chosen / chosen.sum(-1, keepdims=True)
        return Evaluation(task_loss, load)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(..., T, classes), (..., T) → (...), the mean over the tokens."""
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(-1)


def _gradient(loss: Tensor | None, weight: Tensor) -> Tensor | None:
    """The gradient of a single loss on one weight; None without a loss."""
    if loss is None:
        return None
    return torch.autograd.grad(loss.sum(), weight, retain_graph=True)[0]


def _per_run(coefficient: float | Tensor) -> float | Tensor:
    """A coefficient, or one for each run, in the shape of router weights."""
    return coefficient.view(-1, 1, 1) if isinstance(coefficient, Tensor) else coefficient
