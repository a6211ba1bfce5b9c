"""Runs of many kinds, for tests of export and import."""

from __future__ import annotations

import json
from typing import Any

from moe_sim import RunConfig, Trainer
from moe_sim.history.to_json import run_to_json

RUNS: dict[str, tuple[dict[str, Any], int, dict[int, dict[str, Any]]]] = {
    "collapsing": ({}, 60, {}),
    "not begun": ({}, 0, {}),
    "changed": (
        {"seed": 7},
        25,
        {0: {"z_loss_coef": 0.1}, 10: {"aux_loss_coef": 0.1, "top_k": 2}, 25: {"frozen": True}},
    ),
    "two choices": ({"num_experts": 5, "top_k": 2, "renormalize": True, "capacity_factor": 0.25}, 12, {}),
    "text": ({"task": "text", "num_experts": 3}, 11, {5: {"domain_mix": "code"}}),
    "expert choice": ({"balancing": "expert_choice", "router_noise": "learned"}, 12, {}),
    "diverging": ({"learning_rate": 1000.0, "num_experts": 4}, 50, {}),
    "many experts": ({"num_experts": 64, "top_k": 8}, 10, {4: {"capacity_factor": 1.0}}),
}


def train(changes: dict[str, Any], steps: int, planned: dict[int, dict[str, Any]]) -> Trainer:
    trainer = Trainer(RunConfig(**changes))
    for done in range(steps):
        trainer.update(**planned.get(done, {}))
        trainer.step()
    trainer.update(**planned.get(steps, {}))
    return trainer


def document(**changes: Any) -> dict[str, Any]:
    """A small valid document with some parts replaced."""
    return {**json.loads(SMALL), **changes}


def refuse_constant(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def make_small() -> str:
    trainer = train({"num_experts": 2}, 11, {4: {"aux_loss_coef": 0.1}, 7: {"top_k": 2, "capacity_factor": 1.0}})
    return run_to_json(trainer.history, trainer.probe())


SMALL = make_small()
