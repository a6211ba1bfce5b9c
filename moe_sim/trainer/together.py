"""Training steps: of one run, or of many runs in one batched computation.

Small runs cost mostly the calls into torch and NumPy, of which a batch makes as many as one run.

R runs, L layers, T tokens, E experts, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moe_sim.config.run_config import RunConfig
from moe_sim.history.columns import COARSE
from moe_sim.losses import router_z_each
from moe_sim.router.balancing import Balancing
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
MOST_HIDDEN = 12_288
"""Hidden units of all experts in all runs of one computation, which bounds its memory: about 40 MB."""
FREE = frozenset({
    "seed", "aux_loss_coef", "z_loss_coef", "learning_rate", "warmup_steps", "topic_skew", "topic_shift",
    "shared_direction", "domain_mix", "swap_columns", "swap_weights", "router_init", "expert_init",
})  # fmt: skip
"""Knobs in which runs that are computed together may differ, except that the z-loss counts in all of them or in
none."""

LIMITED_TOKENS = 256
"""Tokens of a batch that is evaluated with a capacity limit."""

Value = TypeVar("Value")
_trains = torch.inference_mode(mode=False)
"""For what makes tensors for training, even if called under `torch.inference_mode()`."""


def advance(trainers: Iterable[Trainer], steps: int) -> None:
    """Trains each of many runs for `steps` steps, fewer if it diverges.

    Runs of one shape are computed together, several times faster than one after the other. The numbers are the same to
    the last digit. Runs have one shape if their configurations differ only in `FREE` knobs; a run with a balancing
    mechanism or a task of its own is computed alone.

    Raises:
        ValueError: for a negative number of steps.
    """
    if steps < 0:
        raise ValueError(f"steps must be 0 or more, not {steps}")
    shapes: dict[Any, list[Trainer]] = {}
    for trainer in dict.fromkeys(trainers):
        # A mechanism or a task of the user's own may keep state that cannot be stacked.
        alone = (id(trainer),) if trainer.history.own_parts else ()
        shapes.setdefault((*shape_of(trainer.config), *alone), []).append(trainer)
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
    pairs = config.batch_tokens * config.top_k * config.num_layers
    hidden = (config.num_experts + config.shared_experts) * config.expert_hidden_size * config.num_layers
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
        self._mistake = first.mistake
        factor = first.config.eval_capacity_factor or first.config.capacity_factor
        self._limited = None if factor is None else first.config.replace(capacity_factor=factor)
        """The configuration of the evaluation with a capacity limit."""
        self._task = self._of(lambda one: one.task, lambda tasks: type(first.task).stack(tasks))
        self._network = self._of(lambda one: one.network, Network.stack)
        of_layers = zip(*(trainer.mechanisms for trainer in trainers), strict=True)
        self._mechanisms = [parts[0] if self._single else type(parts[0]).stack(parts) for parts in of_layers]
        self._optimizer = self._of(
            lambda one: one.optimizer, lambda parts: Adam.stack(parts, self._network.parameters())
        )
        self._recorder = self._of(lambda one: one.recorder, lambda parts: Recorder.stack(parts, self._network.layers))
        self._parameters = self._network.weights
        self._routers = [moe.router.weight for moe in self._network.layers]
        self._frozen = [
            parameter
            for part, parameters in self._network.parts.items()
            if getattr(self._config, f"frozen_{part}")
            for parameter in parameters
        ]
        self._shares = self._of(lambda one: one.shares, torch.stack)
        self._directions = self._of(lambda one: one.directions, torch.stack) if self._config.router_blind else None
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

        batch, routings, loss, gradients = computed
        if not config.frozen:
            self._update_weights()
        steps = np.array([trainer.steps_done + 1 for trainer in self.trainers])
        rows = self._recorder.record(
            steps, config, self._mechanisms, batch.groups, routings, loss, gradients, self._evaluate(steps),
            self._mistake.counted,
        )  # fmt: skip
        for trainer, row in zip(self.trainers, rows, strict=True):
            trainer.history.extend(row[None])
        if not config.frozen:
            for mechanism, routing in zip(self._mechanisms, routings, strict=True):
                load = routing.chosen()
                mechanism.after_step(load / load.sum(-1, keepdims=True), config)
        return True

    def settle(self, index: int) -> Trainer:
        """Brings the trainer of one run up to date and returns it."""
        trainer = self.trainers[index]
        if not self._single:
            self._network.unstack(index, trainer.network)
            self._optimizer.unstack(index, trainer.optimizer)
            self._recorder.unstack(index, trainer.recorder)
            for mechanism, own in zip(self._mechanisms, trainer.mechanisms, strict=True):
                mechanism.unstack(index, own)
        return trainer

    def release(self) -> None:
        """Brings all trainers up to date."""
        for index in range(len(self.trainers)):
            self.settle(index)

    def _compute(self) -> tuple[Batch, list[Routing], StepLosses, RouterGradients] | None:
        """A batch forward through the network, and backward. Returns None if a run diverges."""
        config = self._config
        batch = self._task.batch(config.batch_tokens, self._shares, self._data)
        with torch.set_grad_enabled(not config.frozen):
            logits, routings = self._network(batch.inputs, config, self._mechanisms, noise=self._noise)
            loss = self._losses(logits, batch.labels, routings)
        gradients = RouterGradients() if config.frozen else self._gradients(loss)
        return None if gradients is None else (batch, routings, loss, gradients)

    def _of(self, part: Callable[[Trainer], Value], stack: Callable[[list[Value]], Any]) -> Any:
        """A part of the only run, or the parts of all runs, stacked."""
        parts = [part(trainer) for trainer in self.trainers]
        return parts[0] if self._single else stack(parts)

    def _losses(self, logits: Tensor, labels: Tensor, routings: list[Routing]) -> StepLosses:
        """The task loss, the loss that α weighs, the z-loss, and the total that is optimized."""
        config = self._config
        task = _cross_entropy(logits, labels)
        auxiliary = self._mechanisms[0].losses(self._mechanisms, routings, config)
        z = [router_z_each(routing.logits) for routing in routings]
        total = task
        if self._weighs_auxiliary and auxiliary is not None:
            total = total + self._alpha * _mean(auxiliary)
        if config.z_loss_coef:
            total = total + self._z_coef * _mean(z)
        return StepLosses(task, auxiliary, z, total)

    def _gradients(self, loss: StepLosses) -> RouterGradients | None:
        """Computes all gradients. Returns None if a run diverged."""
        routers = self._routers
        self._optimizer.zero_grad()
        balance = None if loss.auxiliary is None else _gradients(loss.auxiliary, routers)
        z = _gradients(loss.z, routers) if self._config.z_loss_coef else None
        loss.total.sum().backward()
        if not (torch.isfinite(loss.total) & (loss.task < LARGEST_LOSS)).all() or not self._gradients_are_finite():
            return None
        # The total's gradient minus those of the layer's other losses is that of the task.
        task = [router.grad.detach().clone() for router in routers if router.grad is not None]
        for coefficient, others in ((self._alpha, balance), (self._z_coef, z)):
            for gradient, other in zip(task, others or (), strict=False):
                gradient -= _per_run(coefficient) / len(routers) * other
        return RouterGradients(task or None, balance)

    def _gradients_are_finite(self) -> bool:
        norms = torch._foreach_norm([p.grad for p in self._parameters if p.grad is not None])
        return bool(torch.isfinite(torch.stack(norms)).all())

    def _update_weights(self) -> None:
        for parameter in self._frozen:
            parameter.grad = None
        rates = [trainer.next_learning_rate() for trainer in self.trainers]
        self._optimizer.step(rates[0] if self._single else rates)
        if self._directions is not None:
            for moe, direction in zip(self._network.layers, self._directions.unbind(-2), strict=True):
                interventions.make_blind(moe.router, direction)

    def _evaluate(self, steps: np.ndarray) -> Evaluation:
        """Evaluates held-out tokens as in inference, once every 10 steps: no noise, no capacity limit, each token by
        itself. If there is a limit in training or for the evaluation, also with it."""
        shape = (len(steps), self._config.num_layers, self._config.num_experts)
        task_loss, load = np.full(len(steps), np.nan), np.full(shape, np.nan)
        due = np.flatnonzero(steps % COARSE == 0)
        if not due.size:
            return Evaluation(task_loss, load)
        network, mechanisms = self._network, self._mechanisms
        trainers = [self.trainers[index] for index in due.tolist()]
        inputs, labels = self._inputs_and_labels([trainer.evaluation_batch for trainer in trainers])
        if not self._single:
            network, mechanisms = network.only(due), [mechanism.only(due) for mechanism in mechanisms]
        with torch.no_grad():
            how = self._mistake.evaluation(int(steps[0]) if self._single else steps[due].tolist())
            logits, routings = network(inputs, self._config, mechanisms, **how)
            task_loss[due] = _cross_entropy(logits, labels).numpy()
        chosen = np.stack([routing.chosen() for routing in routings], axis=-2)
        load[due] = chosen / chosen.sum(-1, keepdims=True)
        if self._limited is None:
            return Evaluation(task_loss, load)
        limited_loss, sorted_loss = np.full((2, len(steps)), np.nan)
        limited_loss[due] = self._limited_loss(network, mechanisms, inputs, labels)
        by_group = self._inputs_and_labels([trainer.sorted_batch for trainer in trainers])
        sorted_loss[due] = self._limited_loss(network, mechanisms, *by_group)
        return Evaluation(task_loss, load, limited_loss, sorted_loss)

    def _limited_loss(
        self, network: Network, mechanisms: Sequence[Balancing], inputs: Tensor, labels: Tensor
    ) -> np.ndarray:  # fmt: skip
        """The task loss in batches of `LIMITED_TOKENS` tokens under the capacity limit of the evaluation."""
        assert self._limited is not None
        size, dim = max(LIMITED_TOKENS, self.trainers[0].task.sequence or 1), 0 if self._single else 1
        losses = []
        with torch.no_grad():
            for some, their_labels in zip(inputs.split(size, dim), labels.split(size, dim), strict=True):
                logits, _ = network(some, self._limited, mechanisms, inference=True, limited=True)
                losses.append(_cross_entropy(logits, their_labels))
        return torch.stack(losses).mean(0).numpy()

    def _inputs_and_labels(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """Of the only run's batch, or of several runs' batches, stacked."""
        if self._single:
            return batches[0].inputs, batches[0].labels
        return torch.stack([one.inputs for one in batches]), torch.stack([one.labels for one in batches])


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(..., T, classes), (..., T) → (...), the mean over the tokens."""
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(-1)


def _mean(layers: list[Tensor]) -> Tensor:
    return layers[0] if len(layers) == 1 else torch.stack(layers).mean(0)


def _gradients(losses: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """The gradient of each layer's loss on its router. It goes through that layer only, so it costs little."""
    pairs = zip(losses, weights, strict=True)
    return [torch.autograd.grad(loss.sum(), weight, retain_graph=True)[0] for loss, weight in pairs]


def _per_run(coefficient: float | Tensor) -> float | Tensor:
    """A coefficient, or one for each run, in the shape of router weights."""
    return coefficient.view(-1, 1, 1) if isinstance(coefficient, Tensor) else coefficient
