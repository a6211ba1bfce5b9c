"""Trains transformers' own tiny models, with and without their load-balancing loss, while they are watched."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from moe_sim.config.extras import require
from moe_sim.losses import load_balancing_loss
from moe_sim.tasks.corpora import ALPHABET, DOMAINS, Corpus, encoded_corpora
from moe_sim.tracing.watching import watch

SEQUENCES, LENGTH = 8, 64
LEARNING_RATE = 3e-3
STEPS = 400
STRONG = 1.0
"""A `router_aux_loss_coef` that keeps a model balanced within 400 steps. What models are trained with, 0.001 to 0.02,
is too weak for so short a training: transformers computes this loss over all layers together, so that layers which
collapse onto different experts cancel. For the same reason it cannot bring a collapsed model back."""
RESCUE = 0.1
"""The coefficient of a loss that is computed for each layer, and can."""
SMALL = dict(
    vocab_size=len(ALPHABET), hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
    max_position_embeddings=LENGTH, pad_token_id=None, bos_token_id=None, eos_token_id=None, output_router_logits=True,
)  # fmt: skip
_MIXTRAL = dict(num_local_experts=8, num_experts_per_tok=2, intermediate_size=64)
_QWEN = dict(num_experts=16, num_experts_per_tok=2, moe_intermediate_size=48, intermediate_size=64, head_dim=16,
             decoder_sparse_step=1)  # fmt: skip


@dataclass(frozen=True)
class Demonstration:
    """A model to be trained and watched."""

    name: str
    """Of its folder."""
    family: str
    """transformers' `model_type`."""
    settings: dict[str, Any]
    coefficient: float
    """`router_aux_loss_coef`, the weight of the model's load-balancing loss."""
    rescue: Literal["", "own loss", "loss of each layer"] = ""
    """What is switched on in the second half: the model's own load-balancing loss with the coefficient `STRONG`, or one
    of each layer with `RESCUE`."""


DEMONSTRATIONS = (
    Demonstration("mixtral-without-loss", "mixtral", _MIXTRAL, 0.0),
    Demonstration("mixtral-rescued", "mixtral", _MIXTRAL, 0.0, "loss of each layer"),
    Demonstration("mixtral-not-rescued", "mixtral", _MIXTRAL, 0.0, "own loss"),
    Demonstration("mixtral-with-loss", "mixtral", _MIXTRAL, STRONG),
    Demonstration("mixtral-one-per-token", "mixtral", _MIXTRAL | {"num_experts_per_tok": 1}, 0.0),
    Demonstration("qwen3-moe-without-loss", "qwen3_moe", _QWEN, 0.0),
    Demonstration("qwen3-moe-with-loss", "qwen3_moe", _QWEN, STRONG),
)


def demonstrate(
    folder: Path, steps: int = STEPS, report: Callable[[str, int], None] = lambda name, step: None,
    demonstrations: tuple[Demonstration, ...] = DEMONSTRATIONS,
) -> None:  # fmt: skip
    """Trains each model on the text that ships with Python and writes its trace into a folder of its own.

    Args:
        folder: where the folders of the traces go.
        steps: of each model.
        report: called after each step with the name of the demonstration and the number of the step.
        demonstrations: what to train.

    Raises:
        MissingPackage: if transformers is not installed.
        CannotWriteError: if nothing can be written there.
    """
    require("transformers", "The demonstration")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only get into each other's way in models this small
    try:
        for one in demonstrations:
            _train(one, folder / one.name, steps, report)
    finally:
        torch.set_num_threads(threads)


def _train(one: Demonstration, path: Path, steps: int, report: Callable[[str, int], None]) -> None:
    model = _model(one)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0)
    routers = [weight for name, weight in model.named_parameters() if name.endswith(".gate.weight")]
    generator = torch.Generator().manual_seed(0)
    corpus, shares = Corpus(encoded_corpora()[0]), torch.full((len(DOMAINS),), 1 / len(DOMAINS))
    kinds: Tensor = torch.empty(0)  # (B, S) the kind of text of each token in the present batch
    with watch(model, path, groups=lambda *_: kinds, group_names=DOMAINS) as trace:
        for step in range(1, steps + 1):
            characters, domain = corpus.draw(SEQUENCES, LENGTH - 1, shares, generator)
            kinds = domain[:, None].expand_as(characters)
            if one.rescue == "own loss" and step > steps // 2:
                model.router_aux_loss_coef = STRONG
            output = model(input_ids=characters, labels=characters)
            each = RESCUE if step > steps // 2 and one.rescue == "loss of each layer" else 0.0
            loss = output.loss + each * _balance(output.router_logits, model.config.num_experts_per_tok)
            loss.backward()
            gradient = torch.cat([weight.grad.flatten() for weight in routers]).norm()
            optimizer.step()
            optimizer.zero_grad()
            aux_loss = float(output.aux_loss.detach())
            task_loss = float(output.loss.detach()) - model.router_aux_loss_coef * aux_loss
            trace.step(
                task_loss=task_loss, aux_loss=aux_loss, coefficient=each or model.router_aux_loss_coef,
                router_gradient=gradient,
            )  # fmt: skip
            report(one.name, step)


def _balance(router_logits: Sequence[Tensor], top_k: int) -> Tensor:
    """The mean of all layers' load-balancing losses, from their (T, E) logits."""
    probs_LTE = torch.stack([logits_TE.softmax(-1) for logits_TE in router_logits])
    return load_balancing_loss(router_probs=probs_LTE, expert_index=probs_LTE.topk(top_k).indices)


def _model(one: Demonstration) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = SMALL | one.settings | {"router_aux_loss_coef": one.coefficient}
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(one.family, **settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as transformers does it, but not with the generator that all share
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, model.config.initializer_range, generator=generator)
    return model.train()
