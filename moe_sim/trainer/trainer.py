"""Training one optimizer step at a time, from a configuration to a history.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim import losses
from moe_sim.config.events import Event
from moe_sim.config.knobs import live_changes
from moe_sim.config.run_config import RunConfig, expert_pair
from moe_sim.history.history import COARSE, History, StepRecord
from moe_sim.history.probe import Probe
from moe_sim.router.balancing import METHODS
from moe_sim.router.routing import Routing
from moe_sim.tasks.catalogue import make_task
from moe_sim.tasks.task import Batch, HeldOut, generators
from moe_sim.trainer import interventions
from moe_sim.trainer.network import Network
from moe_sim.trainer.optimizer import Adam
from moe_sim.trainer.recorder import Evaluation, Recorder, RouterGradients, StepLosses

LARGEST_LOSS = 103.0
"""Nats. Above it, the average label has a probability that float32 cannot tell from 0 (smallest: e^−103.3)."""
START_TOKENS = 4096
"""Tokens from which the common direction and the evenness of a start are taken."""
EVALUATION_TOKENS = 512
"""Held-out tokens that are evaluated as in inference, once every 10 steps."""

_trains = torch.inference_mode(mode=False)
"""For methods that make tensors for training, even if called under `torch.inference_mode()`."""


class Trainer:
    """Trains one small MoE network.

    The same configuration and the same updates at the same steps give the same numbers, bit for bit, on one machine
    with one torch version and number of torch threads. With another number of threads, large matrix products sum in
    another order and the last digits differ. The page, the commands and the sweeps use one thread
    (`torch.set_num_threads(1)`).

    The initial weights do not depend on live knobs; of these, only the ones that shift the data affect the tokens.
    """

    @_trains
    def __init__(self, config: RunConfig, history: History | None = None) -> None:
        """
        Args:
            config: the run.
            history: where steps are recorded; a new one by default.
        """
        self.config = config
        random = generators(config.seed)
        self._data, self._noise, self._evaluation = random["data"], random["noise"], random["evaluation"]
        self._evaluation_start = self._evaluation.get_state()
        self.task = make_task(config)
        weights = random["weights"]
        self.network = Network(self.task.stem(weights), self.task.width, self.task.classes, config, weights)
        self.balancing = METHODS[config.balancing](config.num_experts)
        self._start = random["start"]
        self._start_state = self._start.get_state()
        self._set_start()
        self._optimizer = Adam(self.network.parameters())
        self._updates = 0
        self._recorder = Recorder(self.network.moe.experts, len(self.task.group_names))
        self.history = History(config) if history is None else history
        self.diverged = False
        """True once a loss or gradient was not finite or the task loss was above `LARGEST_LOSS`. Weights and history
        then stay unchanged."""
        self._set_data_shares()
        self._intervene(RunConfig())

    @property
    def steps_done(self) -> int:
        """The number of steps so far."""
        return len(self.history)

    @property
    def held_out(self) -> HeldOut:
        """The tokens of the routing map."""
        return self.task.held_out

    @_trains
    def update(self, **changes: Any) -> None:
        """Changes live knobs from the next step on.

        Raises:
            ValueError: for an unknown or structural knob, which the message names, or an invalid value. Nothing is
                changed in that case.
        """
        changed = live_changes(self.config, changes)
        if not changed:
            return
        before, config = self.config, self.config.replace(**changed)
        self.config = config
        self.history.record_event(Event(self.steps_done, changed))
        if "balancing" in changed:
            self.balancing = METHODS[config.balancing](config.num_experts)
        if not torch.equal(self._shares, self.task.shares(config)):
            self._set_data_shares()
        self._intervene(before)

    @_trains
    def copy(self, history: History) -> Trainer:
        """Returns an independent copy that records into another history. Takes about as long as a step."""
        shared = {id(self.task): self.task, id(self.history): history}
        return copy.deepcopy(self, shared)

    def run(self, steps: int) -> History:
        """Trains for `steps` steps, fewer if the run diverges. Returns the trainer's history.

        Raises:
            ValueError: for a negative number of steps.
        """
        if steps < 0:
            raise ValueError(f"steps must be 0 or more, not {steps}")
        for _ in range(steps):
            if self.diverged:
                break
            self.step()
        return self.history

    @_trains
    def step(self) -> StepRecord | None:
        """Takes one optimizer step on a fresh batch; a frozen run only routes it.

        Returns:
            The record of the step; None if the run has diverged, in this call or before.
        """
        if self.diverged:
            return None
        config, step = self.config, self.steps_done + 1

        # Forward: the batch through router, experts and head.
        batch = self.task.batch(config.batch_tokens, self._shares, self._data)
        with torch.set_grad_enabled(not config.frozen):
            logits, routing = self.network(batch.inputs, config, self.balancing, noise=self._noise)
            loss = self._losses(logits, batch.labels, routing)

        # Backward and update.
        gradients = RouterGradients() if config.frozen else self._backward_and_update(loss)
        if gradients is None:
            self.diverged = True
            return None

        evaluation = self._evaluate() if step % COARSE == 0 else None
        record = self._recorder.record(step, config, self.balancing, batch.groups, routing, loss, gradients, evaluation)
        if not config.frozen:
            self.balancing.after_step(record.load, config)
        self.history.append(record)
        return record

    @_trains
    def probe(self) -> Probe:
        """Routes the held-out tokens of the routing map with the current weights."""
        moe, inputs = self.network.moe, self.held_out.batch.inputs
        with torch.no_grad():
            routing = moe.route(self.network.stem(inputs), self.config, self.balancing)
        first = routing.expert_index[:, 0].numpy()
        num_experts = self.config.num_experts
        joint = self._recorder.joint.value.reshape(-1, num_experts)
        together = self._recorder.together.value.reshape(num_experts, num_experts)
        return Probe(self.steps_done, first.astype(np.uint8), ~routing.served(), joint, together)

    def _losses(self, logits: Tensor, labels: Tensor, routing: Routing) -> StepLosses:
        """The task loss, the loss that α weighs, the z-loss, and the total that is optimized."""
        config = self.config
        task = F.cross_entropy(logits, labels)
        auxiliary = self.balancing.loss(routing, config)
        z = losses.router_z_loss(router_logits=routing.logits)
        total = task
        if config.aux_loss_coef and auxiliary is not None:
            total = total + config.aux_loss_coef * auxiliary
        if config.z_loss_coef:
            total = total + config.z_loss_coef * z
        return StepLosses(task, auxiliary, z, total)

    def _backward_and_update(self, loss: StepLosses) -> RouterGradients | None:
        """Computes gradients and updates the weights. Returns None, without an update, if the step diverged."""
        config, router_weight = self.config, self.network.moe.router.weight
        self._optimizer.zero_grad()
        balance = _gradient(loss.auxiliary, router_weight)
        z = _gradient(loss.z, router_weight) if config.z_loss_coef else None
        loss.total.backward()
        if not (torch.isfinite(loss.total) and loss.task < LARGEST_LOSS and self._gradients_are_finite()):
            return None
        # The total's gradient minus those of the other losses is that of the task.
        task = router_weight.grad.detach().clone()  # type: ignore[union-attr]
        if balance is not None:
            task -= config.aux_loss_coef * balance
        if z is not None:
            task -= config.z_loss_coef * z
        for part, parameters in self.network.parts().items():
            if getattr(config, f"frozen_{part}"):
                for parameter in parameters:
                    parameter.grad = None
        self._updates += 1
        warm_up = min(1.0, self._updates / max(1, config.warmup_steps))
        self._optimizer.step(config.learning_rate * warm_up)
        if config.router_blind:
            interventions.make_blind(self.network.moe.router, self._direction)
        return RouterGradients(task, balance)

    def _set_start(self) -> None:
        """Prepares the initial weights as `router_init` and `expert_init` say."""
        if self.config.expert_init == "copies":
            interventions.start_as_copies(self.network.moe.experts)
        if self.config.router_init == "even":
            interventions.start_evenly(self.network.moe.router, self._typical_tokens(), self._start)

    def _typical_tokens(self) -> Tensor:
        """(T, D) tokens in the default shares, as the stem makes them now; in every run of a seed the same."""
        self._start.set_state(self._start_state)
        batch = self.task.batch(START_TOKENS, self.task.shares(RunConfig()), self._start)
        with torch.no_grad():
            return self.network.stem(batch.inputs)

    def _intervene(self, before: RunConfig) -> None:
        """Carries out what a change of live knobs does to the weights at once."""
        config, moe = self.config, self.network.moe
        if config.router_blind and not before.router_blind:
            self._direction = interventions.common_direction(self._typical_tokens())
            interventions.make_blind(moe.router, self._direction)
        if config.swap_columns != before.swap_columns:
            for pair in filter(None, map(expert_pair, (before.swap_columns, config.swap_columns))):
                interventions.swap(self._with_moments(moe.router), pair, 1)
                interventions.swap([self.balancing.bias], pair, 0)
        if config.swap_weights != before.swap_weights:
            for pair in filter(None, map(expert_pair, (before.swap_weights, config.swap_weights))):
                interventions.swap(self._with_moments(moe.experts), pair, 0)
                self._recorder.swap(pair)

    def _with_moments(self, part: nn.Module) -> list[Tensor]:
        """A part's parameters, each with its moments in the optimizer."""
        return [tensor for one in part.parameters() for tensor in (one.data, *self._optimizer.state_of(one))]

    def _gradients_are_finite(self) -> bool:
        norms = torch._foreach_norm([p.grad for p in self.network.parameters() if p.grad is not None])
        return bool(torch.isfinite(torch.stack(norms)).all())

    def _set_data_shares(self) -> None:
        """Sets the group shares from the current knobs and draws held-out tokens in these shares, always from the same
        random state."""
        self._shares = self.task.shares(self.config)
        self._evaluation.set_state(self._evaluation_start)
        self._evaluation_batch: Batch = self.task.held_out_batch(EVALUATION_TOKENS, self._shares, self._evaluation)

    def _evaluate(self) -> Evaluation:
        """Evaluates held-out tokens as in inference: no noise, no capacity limit, each token by itself."""
        with torch.no_grad():
            logits, routing = self.network(self._evaluation_batch.inputs, self.config, self.balancing, inference=True)
            task_loss = F.cross_entropy(logits, self._evaluation_batch.labels).item()
        chosen = routing.chosen()
        return Evaluation(task_loss, np.bincount(chosen, minlength=self.config.num_experts) / chosen.size)


def _gradient(loss: Tensor | None, weight: Tensor) -> Tensor | None:
    """The gradient of a single loss on one weight; None without a loss."""
    if loss is None:
        return None
    return torch.autograd.grad(loss, weight, retain_graph=True)[0]
