"""The tasks by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from moe_sim.config.run_config import RunConfig
from moe_sim.tasks.language import Language
from moe_sim.tasks.task import Task, generators
from moe_sim.tasks.text import Text
from moe_sim.tasks.topics import Topics

TASKS: dict[str, Callable[[RunConfig, torch.Generator, torch.Generator], Task]] = {
    "topics": Topics, "text": Text, "language": Language,
}  # fmt: skip


def make_task(config: RunConfig) -> Task:
    """Creates the task of a run from its configuration."""
    random = generators(config.seed)
    return TASKS[config.task](config, random["task"], random["held_out"])
