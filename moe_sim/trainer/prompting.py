"""A language model's continuation of a prompt with the expert of each character, and what a single expert is worth.

L layers, n characters.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from moe_sim.config.errors import InvalidInput
from moe_sim.tasks.corpora import decode, encode
from moe_sim.tasks.language import SEQUENCE, Language
from moe_sim.trainer.network import Network

if TYPE_CHECKING:
    from moe_sim.trainer.trainer import Trainer

LONGEST_PROMPT = 200
"""Characters."""
CONTINUATION = 80
"""The number of characters that follow a prompt."""
TEMPERATURE = 0.7
"""Characters are drawn from the softmax of logits divided by this: below 1, fewer improbable ones."""


@dataclass(frozen=True)
class Prompt:
    """What a visitor asks of a model.

    Raises:
        InvalidInput: for a text that is empty or longer than `LONGEST_PROMPT`.
    """

    text: str
    switched_off: tuple[int, int] | None = None
    """A layer and one of its experts, counted from 0."""

    def __post_init__(self) -> None:
        if not self.text or len(self.text) > LONGEST_PROMPT:
            raise InvalidInput(f"Type 1 to {LONGEST_PROMPT} characters, not {len(self.text):,}.")


@torch.no_grad()
def answer(trainer: Trainer, prompt: Prompt) -> dict[str, Any]:
    """Lets the model continue a text, as in inference.

    Returns:
        `step`; `text`, the prompt and its continuation; `prompt`, the number of characters that the prompt has of it;
        `experts`, for each layer the first choice for each character. With an expert switched off, which then adds
        nothing to any token, also the mean `loss` of held-out tokens, `loss_without` it, and `loss_without_other` that
        is drawn at random, the expert `other` of the same layer. JSON can hold it all.

    Raises:
        InvalidInput: if the task is not language, no character of the prompt is one of the model's, or there is no such
            expert.
    """
    task, config = trainer.task, trainer.config
    if not isinstance(task, Language):
        raise InvalidInput("Only a language model continues a text.")
    characters = encode(prompt.text, task.alphabet).tolist()
    if not characters:
        raise InvalidInput("The model knows none of these characters.")
    given, off = len(characters), prompt.switched_off
    if off is not None and not (off[0] < config.num_layers and off[1] < config.num_experts):
        raise InvalidInput(f"There is no expert {off[1] + 1} in layer {off[0] + 1}.")
    random = torch.Generator().manual_seed(trainer.steps_done)
    network = trainer.network if off is None else _without(trainer.network, off)
    for _ in range(CONTINUATION):
        logits, _ = network(
            torch.tensor(characters[-SEQUENCE:]), config, trainer.mechanisms, inference=True
        )  # fmt: skip
        chances = (logits[-1] / TEMPERATURE).softmax(0)
        characters.append(int(torch.multinomial(chances, 1, generator=random)))
    found: dict[str, Any] = {
        "step": trainer.steps_done, "text": decode(characters, task.alphabet), "prompt": given,
        "experts": _experts(trainer, network, characters),
    }  # fmt: skip
    return found if off is None else found | _worth(trainer, network, off, random)


def _experts(trainer: Trainer, network: Network, characters: list[int]) -> list[list[int]]:
    """(L, n) the first choice for each character, in sequences from the first one on."""
    layers: list[list[int]] = [[] for _ in range(trainer.config.num_layers)]
    for start in range(0, len(characters), SEQUENCE):
        inputs = torch.tensor(characters[start : start + SEQUENCE])
        routings = network.routings(inputs, trainer.config, trainer.mechanisms, inference=True)
        for layer, routing in zip(layers, routings, strict=True):
            layer.extend(routing.expert_index[:, 0].tolist())
    return layers


def _worth(
    trainer: Trainer, without: Network, off: tuple[int, int], random: torch.Generator
) -> dict[str, float | int]:  # fmt: skip
    """The loss of held-out tokens with an expert, without it, and without another one of its layer."""
    layer, expert = off
    others = trainer.config.num_experts - 1
    other = (expert + 1 + int(torch.randint(others, (1,), generator=random))) % (others + 1)
    return {
        "loss": _loss(trainer, trainer.network), "loss_without": _loss(trainer, without), "other": other,
        "loss_without_other": _loss(trainer, _without(trainer.network, (layer, other))),
    }  # fmt: skip


def _loss(trainer: Trainer, network: Network) -> float:
    batch = trainer.evaluation_batch
    logits, _ = network(batch.inputs, trainer.config, trainer.mechanisms, inference=True)
    return F.cross_entropy(logits, batch.labels).item()


def _without(network: Network, off: tuple[int, int]) -> Network:
    """A copy in which an expert's output is 0."""
    layer, expert = off
    changed = copy.deepcopy(network)
    experts = changed.layers[layer].experts
    experts.weight_out[expert] = 0.0
    experts.bias_out[expert] = 0.0
    return changed
