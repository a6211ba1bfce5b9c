"""Training one optimizer step at a time, from a configuration to a history.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moe_sim.config.events import Event
from moe_sim.config.knobs import live_changes
from moe_sim.config.run_config import RunConfig, expert_pair
from moe_sim.history.history import History, StepRecord
from moe_sim.history.probe import Probe
from moe_sim.router.balancing import METHODS
from moe_sim.tasks.catalogue import make_task
from moe_sim.tasks.task import Batch, HeldOut, generators
from moe_sim.trainer import interventions
from moe_sim.trainer.network import Network
from moe_sim.trainer.optimizer import Adam
from moe_sim.trainer.recorder import Recorder
from moe_sim.trainer.together import advance

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
        self.random = generators(config.seed)
        self._evaluation_start = self.random["evaluation"].get_state()
        self.task = make_task(config)
        weights = self.random["weights"]
        self.network = Network(self.task.stem(weights), self.task.width, self.task.classes, config, weights)
        self.balancing = METHODS[config.balancing](config.num_experts)
        self._start_state = self.random["start"].get_state()
        self._set_start()
        self.optimizer = Adam(self.network.parameters())
        self._updates = 0
        self.recorder = Recorder(self.network.moe.experts, len(self.task.group_names))
        self.history = History(config) if history is None else history
        self.diverged = False
        """True once a loss or gradient was not finite or the task loss was above `LARGEST_LOSS`. Weights and
        history then stay unchanged."""
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
        if not torch.equal(self.shares, self.task.shares(config)):
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
        advance([self], steps)
        return self.history

    def step(self) -> StepRecord | None:
        """Takes one optimizer step on a fresh batch; a frozen run only routes it.

        Returns:
            The record of the step; None if the run has diverged, in this call or before.
        """
        advance([self], 1)
        return None if self.diverged else self.history.newest()

    @_trains
    def probe(self) -> Probe:
        """Routes the held-out tokens of the routing map with the current weights."""
        moe, inputs = self.network.moe, self.held_out.batch.inputs
        with torch.no_grad():
            routing = moe.route(self.network.stem(inputs), self.config, self.balancing)
        first = routing.expert_index[:, 0].numpy()
        num_experts = self.config.num_experts
        joint = self.recorder.joint.value.reshape(-1, num_experts)
        together = self.recorder.together.value.reshape(num_experts, num_experts)
        return Probe(self.steps_done, first.astype(np.uint8), ~routing.served(), joint, together)

    def next_learning_rate(self) -> float:
        """The learning rate of the next update, which is about to be made."""
        self._updates += 1
        return self.config.learning_rate * min(1.0, self._updates / max(1, self.config.warmup_steps))

    def _set_start(self) -> None:
        """Prepares the initial weights as `router_init` and `expert_init` say."""
        if self.config.expert_init == "copies":
            interventions.start_as_copies(self.network.moe.experts)
        if self.config.router_init == "even":
            interventions.start_evenly(self.network.moe.router, self._typical_tokens(), self.random["start"])

    def _typical_tokens(self) -> Tensor:
        """(T, D) tokens in the default shares, as the stem makes them now; in every run of a seed the same."""
        self.random["start"].set_state(self._start_state)
        batch = self.task.batch(START_TOKENS, self.task.shares(RunConfig()), self.random["start"])
        with torch.no_grad():
            return self.network.stem(batch.inputs)

    def _intervene(self, before: RunConfig) -> None:
        """Carries out what a change of live knobs does to the weights at once."""
        config, moe = self.config, self.network.moe
        if config.router_blind and not before.router_blind:
            self.direction = interventions.common_direction(self._typical_tokens())
            interventions.make_blind(moe.router, self.direction)
        if config.swap_columns != before.swap_columns:
            for pair in filter(None, map(expert_pair, (before.swap_columns, config.swap_columns))):
                interventions.swap(self._with_moments(moe.router), pair, 1)
                interventions.swap([self.balancing.bias], pair, 0)
        if config.swap_weights != before.swap_weights:
            for pair in filter(None, map(expert_pair, (before.swap_weights, config.swap_weights))):
                interventions.swap(self._with_moments(moe.experts), pair, 0)
                self.recorder.swap(pair)

    def _with_moments(self, part: nn.Module) -> list[Tensor]:
        """A part's parameters, each with its moments in the optimizer."""
        return [tensor for one in part.parameters() for tensor in (one.data, *self.optimizer.state_of(one))]

    def _set_data_shares(self) -> None:
        """Sets the group shares from the current knobs and draws held-out tokens in these shares, always from the same
        random state."""
        self.shares = self.task.shares(self.config)
        random = self.random["evaluation"]
        random.set_state(self._evaluation_start)
        self.evaluation_batch: Batch = self.task.held_out_batch(EVALUATION_TOKENS, self.shares, random)
