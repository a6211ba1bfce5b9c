"""Training one optimizer step at a time, from a configuration to a history.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from moe_sim.config.events import Event
from moe_sim.config.knobs import live_changes
from moe_sim.config.run_config import RunConfig, expert_pair
from moe_sim.config.words import plural
from moe_sim.history.columns import StepRecord
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.router.balancing import METHODS
from moe_sim.router.mistakes.catalogue import MISTAKES
from moe_sim.tasks.catalogue import make_task
from moe_sim.tasks.task import Batch, HeldOut, generators
from moe_sim.trainer import interventions
from moe_sim.trainer.moe import Router
from moe_sim.trainer.network import Network
from moe_sim.trainer.optimizer import Adam
from moe_sim.trainer.own_parts import OwnBalancing, OwnTask, check_routing, check_selection, own_mechanisms, own_task
from moe_sim.trainer.recorder import Recorder
from moe_sim.trainer.together import advance

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from moe_sim.charts.palette import Theme

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
    def __init__(
        self, config: RunConfig, history: History | None = None, *, balancing: OwnBalancing | None = None,
        task: OwnTask | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            config: the run.
            history: where steps are recorded; a new one by default.
            balancing: a mechanism of your own in place of `config.balancing`, by which only the verdict's advice goes
                then: a subclass of `moe_sim.router.balancing.Balancing`, an object of one, of which each layer gets
                a copy, or a function of the number of experts. α weighs its loss.
            task: a task of your own in place of `config.task`: an object that fulfils `moe_sim.tasks.task.Task`, or a
                class or function that makes one of the configuration and the generators of its data and of the held-out
                tokens.

        A run with a part of its own is never computed together with others, cannot be written as JSON, which could not
        restore it, and keeps its mechanism to its end.

        Raises:
            InvalidInput: with a sentence, for a mechanism or a task that lacks something or has another shape.
        """
        self.config = config
        self.random = generators(config.seed)
        self._evaluation_start = self.random["evaluation"].get_state()
        self.task = make_task(config) if task is None else own_task(task, config, (EVALUATION_TOKENS, START_TOKENS))
        self.mistake = MISTAKES[config.mistake]
        weights = self.random["weights"]
        self.network = Network(self.task, config, weights)
        if balancing is None:
            self._set_mechanisms()
        else:
            self.mechanisms = own_mechanisms(balancing, config)
            self._try_mechanisms()
        self._start_state = self.random["start"].get_state()
        self._set_start()
        self.optimizer = Adam(self.network.parameters())
        self._updates = 0
        self.recorder = Recorder(self.network.layers, len(self.task.group_names))
        self.history = History(config) if history is None else history
        self.history.own_parts = {
            kind: type(part).__name__
            for kind, given, part in (("balancing", balancing, self.mechanisms[0]), ("task", task, self.task))
            if given is not None
        }
        self.diverged = False
        """True once a loss or gradient was not finite or the task loss was above `LARGEST_LOSS`. Weights and
        history then stay unchanged."""
        self._set_data_shares()
        self._intervene(RunConfig())

    def __repr__(self) -> str:
        own = "".join(f", {kind}={name}" for kind, name in self.history.own_parts.items())
        return f"<Trainer {self.config!r}{own}: {plural(self.steps_done, 'step')}{', diverged' * self.diverged}>"

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
        if "balancing" in changes and "balancing" in self.history.own_parts:
            raise ValueError("This run has a balancing mechanism of its own, which stays to its end.")
        changed = live_changes(self.config, changes)
        if not changed:
            return
        before, config = self.config, self.config.replace(**changed)
        self.config = config
        self.history.record_event(Event(self.steps_done, changed))
        if "balancing" in changed:
            self._set_mechanisms()
        if not torch.equal(self.shares, self.task.shares(config)):
            self._set_data_shares()
        self._intervene(before)

    @_trains
    def copy(self, history: History) -> Trainer:
        """Returns an independent copy that records into another history. Takes about as long as a step."""
        history.own_parts = self.history.own_parts
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
        with torch.no_grad():
            routings = self.network.routings(self.held_out.batch.inputs, self.config, self.mechanisms)
        first = np.stack([routing.expert_index[:, 0].numpy() for routing in routings])
        dropped = np.stack([~routing.served() for routing in routings])
        layers, num_experts = self.config.num_layers, self.config.num_experts
        joint = self.recorder.joint.value.reshape(layers, -1, num_experts)
        together = self.recorder.together.value.reshape(layers, num_experts, num_experts)
        return Probe(self.steps_done, first.astype(np.uint8), dropped, joint, together)

    def plot(self, name: str, layer: int | None = None, theme: Theme = "light") -> go.Figure:
        """Draws a chart of the Live page, such as `routing_map`, or any column over the steps: see `moe_sim.plot`.

        Args:
            name: of a chart or a column.
            layer: counted from 0; None for the mean of all layers.
            theme: light or dark.
        """
        import moe_sim  # charts stand above trainers: the package hands on what draws

        return moe_sim.plot(self, name, layer, theme)

    def next_learning_rate(self) -> float:
        """The learning rate of the next update, which is about to be made."""
        self._updates += 1
        return self.config.learning_rate * min(1.0, self._updates / max(1, self.config.warmup_steps))

    def _set_start(self) -> None:
        """Prepares the initial weights as `router_init` and `expert_init` say."""
        if self.config.expert_init == "copies":
            for moe in self.network.layers:
                interventions.start_as_copies(moe.experts)
        if self.config.router_init == "even":
            for router, x_TD in self._routers_and_inputs():
                interventions.start_evenly(router, x_TD, self.random["start"])

    def _routers_and_inputs(self) -> Iterator[tuple[Router, Tensor]]:
        """Each layer's router, with (T, D) inputs of tokens in the default shares: of tokens that are the same in every
        run of a seed, as the network makes them now."""
        self.random["start"].set_state(self._start_state)
        batch = self.task.batch(START_TOKENS, self.task.shares(RunConfig()), self.random["start"])
        # With several layers, the later routers' inputs would depend on live knobs.
        config = self.config.replace(top_k=1, renormalize=False)
        return self.network.router_inputs(batch.inputs, config, self.mechanisms)

    def _set_mechanisms(self) -> None:
        config = self.config
        method = self.mistake.mechanism(METHODS[config.balancing])
        self.mechanisms = [method(config.num_experts) for _ in range(config.num_layers)]
        """The balancing mechanism of each layer."""
        for mechanism in self.mechanisms:
            mechanism.score_function = config.score_function

    def _try_mechanisms(self) -> None:
        """Tries a mechanism of the user's own on held-out tokens; it and the generators stay as they were.

        Raises:
            InvalidInput: with a sentence, if it returns something of another shape.
        """
        config, mechanisms = self.config, copy.deepcopy(self.mechanisms)
        check_selection(mechanisms[0], config)
        noise = torch.Generator().manual_seed(0)
        routings = self.network.routings(self.held_out.batch.inputs, config, mechanisms, noise=noise)
        check_routing(mechanisms[0], routings, config.replace(balance_scope="batch"))

    def _intervene(self, before: RunConfig) -> None:
        """Carries out what a change of live knobs does to the weights at once."""
        config, layers = self.config, self.network.layers
        if config.router_blind and not before.router_blind:
            directions = []
            for router, x_TD in self._routers_and_inputs():
                directions.append(interventions.common_direction(x_TD))
                interventions.make_blind(router, directions[-1])
            self.directions = torch.stack(directions)
            """(L, D) what all tokens have in common at each router, since the routers are blind to it."""
        if config.swap_columns != before.swap_columns:
            for pair in filter(None, map(expert_pair, (before.swap_columns, config.swap_columns))):
                for moe, mechanism in zip(layers, self.mechanisms, strict=True):
                    interventions.swap(self._with_moments(moe.router), pair, 1)
                    interventions.swap([getattr(mechanism, name) for name in mechanism.state], pair, 0)
        if config.swap_weights != before.swap_weights:
            for pair in filter(None, map(expert_pair, (before.swap_weights, config.swap_weights))):
                for moe in layers:
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
        self.sorted_batch = self.evaluation_batch.sorted_by_group()
