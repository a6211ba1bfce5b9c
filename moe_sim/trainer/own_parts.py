"""Checks a balancing mechanism and a task of the user's own before a run begins.

T tokens, E experts, D width, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from inspect import isclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_sim.config.errors import InvalidInput
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import plural
from moe_sim.router.balancing import Balancing
from moe_sim.router.routing import Routing
from moe_sim.router.scores import scores_of
from moe_sim.router.selection import Selection
from moe_sim.tasks.task import Task, generators

OwnBalancing = Balancing | Callable[[int], Balancing]
"""A mechanism, of which each layer gets a copy; or a class or function that makes one for E experts."""
OwnTask = Task | Callable[[RunConfig, torch.Generator, torch.Generator], Task]
"""A task; or a class or function that makes one of a configuration and the generators of its data and of the held-out
tokens."""
MEMBERS = ("width", "classes", "group_noun", "group_names", "held_out", "shift_knobs", "sequence", "shares", "batch",
           "held_out_batch", "stem")  # fmt: skip
"""What a task needs. `Task.stack` is for runs that are computed together, which runs with a task of their own are
not."""


def own_mechanisms(balancing: OwnBalancing, config: RunConfig) -> list[Balancing]:
    """A mechanism for each layer of a run.

    Raises:
        InvalidInput: if that is no mechanism for so many experts.
    """
    num_experts, layers = config.num_experts, config.num_layers
    if isinstance(balancing, Balancing):
        made: list[Any] = [deepcopy(balancing) for _ in range(layers)]
    elif callable(balancing) and (not isclass(balancing) or issubclass(balancing, Balancing)):
        made = [balancing(num_experts) for _ in range(layers)]
    else:
        made = [balancing]
    for mechanism in made:
        if not isinstance(mechanism, Balancing):
            named = " RunConfig(balancing=…) chooses one by its name." if isinstance(mechanism, str) else ""
            raise InvalidInput(
                f"balancing must be a subclass of moe_sim.router.balancing.Balancing, or an object of one, not "
                f"{_in_words(mechanism)}.{named}"
            )
        shape = getattr(getattr(mechanism, "bias", None), "shape", None)
        if shape != (num_experts,):
            raise InvalidInput(
                f"The bias of {type(mechanism).__name__} must have one number for each of {num_experts} experts. "
                f"Balancing.__init__({num_experts}) makes it."
            )
        mechanism.score_function = config.score_function
    return made


def own_task(task: OwnTask, config: RunConfig, draws: Sequence[int]) -> Task:
    """The task, with every part that a run needs, in the right shapes.

    Args:
        task: the task, or what makes it.
        config: the run.
        draws: the numbers of tokens that are drawn at once, besides the tokens of a step.

    Raises:
        InvalidInput: on the first part that is missing or wrong.
    """
    made: Any = task
    if isclass(task) or (callable(task) and not any(hasattr(task, name) for name in MEMBERS)):
        random = generators(config.seed)
        made = made(config, random["task"], random["held_out"])
    missing = [name for name in MEMBERS if not hasattr(made, name)]
    if missing:
        raise InvalidInput(
            f"The task, {_in_words(made)}, lacks {', '.join(missing)}; moe_sim.tasks.task.Task says what a task needs."
        )
    _check_task(made, config, draws)
    return made


def check_routing(mechanism: Balancing, routings: Sequence[Routing], config: RunConfig) -> None:
    """Tries a mechanism of the user's own on routings with gradients. It should be a copy, because it may keep state.

    Raises:
        InvalidInput: if what it selects or its loss has the wrong shape, or its loss has no gradient.
    """
    name = type(mechanism).__name__
    for one in mechanism.losses([mechanism] * len(routings), routings, config) or ():
        if not isinstance(one, Tensor) or one.shape != () or not one.requires_grad:
            raise InvalidInput(
                f"The loss of {name} must be a tensor with one number and a gradient with respect to the router, such "
                f"as one made of routing.probs, not {_in_words(one)}."
            )
    mechanism.after_step(np.full(config.num_experts, 1 / config.num_experts), config)


def check_selection(mechanism: Balancing, config: RunConfig) -> None:
    """Tries the selection of a mechanism of the user's own on 64 tokens.

    Raises:
        InvalidInput: if it does not return a `Selection` of the right shape.
    """
    num_experts, top_k = config.num_experts, config.top_k
    logits = torch.randn(64, num_experts, generator=torch.Generator().manual_seed(0))
    chosen = mechanism.select(logits, scores_of(logits, config.score_function), top_k)
    index = chosen.expert_index if isinstance(chosen, Selection) else None
    if (
        index is None or index.dtype != torch.int64 or index.ndim != 2 or len(index) != 64
        or (chosen.assigned is None and index.shape[1] != top_k)
        or not ((index >= 0) & (index < num_experts)).all()
    ):  # fmt: skip
        raise InvalidInput(
            f"select of {type(mechanism).__name__} must return a moe_sim.router.selection.Selection with, for each "
            f"token, {plural(top_k, 'expert')} from 0 to {num_experts - 1} as int64."
        )


def _check_task(task: Task, config: RunConfig, draws: Sequence[int]) -> None:
    batch, groups = task.held_out.batch, len(task.group_names)
    tokens = len(batch.labels)
    if not tokens:
        raise InvalidInput("The held-out batch of the task is empty.")
    counts = (config.batch_tokens, *draws, tokens)
    if task.sequence is not None and any(count % task.sequence for count in counts):
        raise InvalidInput(
            f"The task's sequences of {task.sequence} tokens must divide {', '.join(map(str, counts))}: the tokens of "
            "a step, of an evaluation, of a start, and the held-out ones."
        )
    for values, name, most in ((batch.labels, "labels", task.classes), (batch.groups, "groups", groups)):
        if values.shape != (tokens,) or values.dtype != torch.int64 or not ((values >= 0) & (values < most)).all():
            raise InvalidInput(
                f"The {name} of the task's held-out batch must be {tokens} whole numbers (int64) from 0 to {most - 1}."
            )
    shares = task.shares(config)
    if shares.shape != (groups,) or not (shares >= 0).all() or not torch.isclose(shares.sum(), torch.tensor(1.0)):
        raise InvalidInput(f"The shares of the task must be {plural(groups, 'number')} from 0 that sum to 1.")
    with torch.no_grad():
        made = task.stem(torch.Generator().manual_seed(0))(batch.inputs)
    if made.shape != (tokens, task.width) or not made.is_floating_point():
        raise InvalidInput(
            f"The task's stem must turn the inputs of {tokens} tokens into ({tokens}, {task.width}) vectors, not "
            f"{_in_words(made)}."
        )


def _in_words(thing: object) -> str:
    if isinstance(thing, Tensor):
        gradient = "" if thing.requires_grad else " without a gradient"
        return f"a tensor of shape {tuple(thing.shape)}{gradient}"
    return f"the class {thing.__name__}" if isclass(thing) else f"an object of {type(thing).__name__}"
