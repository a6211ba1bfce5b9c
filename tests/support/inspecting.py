"""Inspects a trainer from outside: its batches, their routing, and gradients computed independently."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_sim import RunConfig, StepRecord, Trainer
from moe_sim.live.live_run import LiveRun
from moe_sim.live.runners.workshop import LocalRunner
from moe_sim.router.routing import Routing
from moe_sim.tasks.task import Batch

SMALL = {"batch_tokens": 64, "num_experts": 4, "expert_hidden_size": 8}


def small_config(**knobs: Any) -> RunConfig:
    """Four experts and 64 tokens a step, unless knobs say otherwise."""
    return RunConfig(**{**SMALL, **knobs})


def eventually(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Whether a condition comes true within `seconds`. Sleeps between looks, to leave the processor to others."""
    wait, deadline = threading.Event(), time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        wait.wait(0.01)
    return bool(condition())


def trainer_of(run: LiveRun) -> Trainer:
    """The trainer of a run that is computed in this process."""
    runner = run._computed._runner
    assert isinstance(runner, LocalRunner)
    return runner.trainer


def weights(trainer: Trainer) -> dict[str, np.ndarray]:
    """A copy of every weight by its name."""
    return {name: value.numpy().copy() for name, value in trainer.network.state_dict().items()}


def keep_batches(trainer: Trainer) -> list[Batch]:
    """A list that fills with the batches that the trainer trains on."""
    batches, draw = [], trainer.task.batch

    def batch(tokens: int, shares: Tensor, generator: torch.Generator) -> Batch:
        batches.append(draw(tokens, shares, generator))
        return batches[-1]

    trainer.task.batch = batch
    return batches


class Watched:
    """A small run with one layer that records each step's routing and the gradients of the router's weights."""

    def __init__(self, **knobs: Any) -> None:
        self.trainer = Trainer(small_config(**knobs))
        self.batches = keep_batches(self.trainer)
        self.routing: Routing
        self.before: dict[str, np.ndarray]
        self.gradients: dict[str, Tensor] = {}
        """Of the task loss, the loss that α weighs and the z-loss."""
        self.trainer.network.register_forward_hook(self._record, with_kwargs=True)

    def step(self) -> StepRecord:
        """One step of the trainer."""
        self.before, self.gradients = weights(self.trainer), {}
        record = self.trainer.step()
        assert record is not None
        return record

    def kept(self) -> np.ndarray:
        """(T, K) bool: whether an expert processed that choice of a token in the last step."""
        kept = self.routing.kept
        return np.ones(self.routing.expert_index.shape, dtype=bool) if kept is None else kept.numpy()

    def chosen(self) -> list[list[int]]:
        """The chosen experts of each token of the last step, first choice first."""
        index, assigned = self.routing.expert_index.numpy(), self.routing.assigned
        present = np.ones(index.shape, dtype=bool) if assigned is None else assigned.numpy()
        return [row[there].tolist() for row, there in zip(index, present, strict=True)]

    def _record(
        self, network: nn.Module, args: tuple, kwargs: dict[str, Any], output: tuple[Tensor, list[Routing]]
    ) -> None:
        if kwargs.get("inference"):
            return
        logits, (self.routing,) = output
        if not torch.is_grad_enabled():
            return
        losses = {
            "task": F.cross_entropy(logits, self.batches[-1].labels),
            "balance": balancing_loss(self.routing, self.trainer.config),
            "z": self.routing.logits.exp().sum(1).log().square().mean(),
        }
        router = network.get_parameter("chain.0.moe.router.weight")
        for name, loss in losses.items():
            if loss is not None:
                self.gradients[name] = torch.autograd.grad(loss, router, retain_graph=True, allow_unused=True)[0]


def balancing_loss(routing: Routing, config: RunConfig) -> Tensor | None:
    """The loss that α weighs, by its definition; None if the mechanism has none."""
    if config.balancing == "load_balancing":
        return _load_balancing(routing, config)
    if config.balancing == "importance":
        return _squared_variation(routing.probs.sum(0))
    if config.balancing == "load":
        return _load(routing, config)
    if config.balancing == "importance_and_load":
        return 0.5 * _squared_variation(routing.probs.sum(0)) + 0.5 * _load(routing, config)
    return None


def _load_balancing(routing: Routing, config: RunConfig) -> Tensor:
    tokens, choices = routing.expert_index.shape
    counted = routing.expert_index[:, :1] if config.convention == "first_choice" else routing.expert_index
    pairs = tokens * choices if config.convention == "per_choice" else tokens
    load = torch.stack([(counted == expert).sum() / pairs for expert in range(config.num_experts)])
    return config.num_experts * (load * routing.probs.mean(0)).sum()


def _load(routing: Routing, config: RunConfig) -> Tensor:
    amounts = []
    for expert in range(config.num_experts):
        others = [other for other in range(config.num_experts) if other != expert]
        threshold = routing.noisy_logits[:, others].sort(1, descending=True).values[:, config.top_k - 1]
        std = routing.noise_std[:, expert] if isinstance(routing.noise_std, Tensor) else routing.noise_std
        score = (routing.logits[:, expert] - threshold) / std
        amounts.append((0.5 * (1 + torch.erf(score / math.sqrt(2)))).sum())
    return _squared_variation(torch.stack(amounts))


def _squared_variation(amounts: Tensor) -> Tensor:
    return (amounts - amounts.mean()).square().mean() / amounts.mean() ** 2
