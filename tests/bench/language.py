"""The language model: the cost of a step beside transformers' own Mixtral, and what it learns.

Run by `python -m tests.bench language`. The peer has as many layers, heads and experts, the same width, the same
batches and, since its experts have three matrices instead of two, two thirds of their hidden size: the same active
arithmetic. It records nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from moe_sim import PRESETS, RunConfig, Trainer
from moe_sim.tasks.corpora import MIXES
from moe_sim.trainer.blocks import WIDTH_OF_HEAD
from tests.bench.timing import medians

STEPS, PROSE_TOKENS = 1_500, 4_096
LOOKS = (0, 20, 60, 200, STEPS)


def print_language(repeats: int) -> None:
    """Print both tables as Markdown."""
    torch.set_num_threads(1)
    config = PRESETS["language-model"].config().replace(aux_loss_coef=0.02)
    trainer = Trainer(config)
    contestants: dict[str, Callable[[], Any]] = {"ours, records on": trainer.step}
    contestants |= {f"transformers' Mixtral ({name})": mixtral(config, name) for name in ("eager", "grouped_mm")}
    print(f"{config.num_layers} layers, one thread, torch {torch.__version__}\n")
    print("| a step of the language model | ms | steps/s | relative to ours |\n| --- | --- | --- | --- |")
    times = medians(contestants, repeats)
    ours = times["ours, records on"]
    for name, milliseconds in times.items():
        print(f"| {name} | {milliseconds:.1f} | {1000 / milliseconds:.0f} | {milliseconds / ours:.2f} |", flush=True)
    print("\n| prose alone, α | held-out loss | busiest pair's share by layer, steps", *LOOKS, "|")
    print("| --- | --- | --- |")
    for alpha in (0.0, 0.02):
        start = time.perf_counter()
        trainer = Trainer(config.replace(aux_loss_coef=alpha, domain_mix="prose"))
        shares = []
        for step in LOOKS:
            trainer.run(max(1, step) - trainer.steps_done)
            largest = trainer.history.last("smoothed_load").max(1) * config.top_k
            shares.append("/".join(f"{share:.2f}" for share in largest))
        print(f"| {alpha} | {loss_on_prose(trainer):.2f} | {', '.join(shares)} |", flush=True)
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)


def loss_on_prose(trainer: Trainer) -> float:
    """The mean loss of held-out English prose, in inference, in nats."""
    task, random = trainer.task, torch.Generator().manual_seed(1)
    batch = task.held_out_batch(PROSE_TOKENS, torch.tensor(MIXES["prose"]), random)
    with torch.no_grad():
        logits, _ = trainer.network(batch.inputs, trainer.config, trainer.mechanisms, inference=True)
    return F.cross_entropy(logits, batch.labels).item()


def mixtral(config: RunConfig, implementation: str) -> Callable[[], None]:
    """A training step of transformers' Mixtral on the batches of a run."""
    from transformers import MixtralConfig, MixtralForCausalLM

    trainer = Trainer(config)
    task, length = trainer.task, trainer.task.sequence
    assert length is not None
    heads = task.width // WIDTH_OF_HEAD
    shape = MixtralConfig(
        vocab_size=task.classes, hidden_size=task.width, intermediate_size=2 * config.expert_hidden_size // 3,
        num_hidden_layers=config.num_layers, num_attention_heads=heads, num_key_value_heads=heads,
        num_local_experts=config.num_experts, num_experts_per_tok=config.top_k, output_router_logits=True,
        router_aux_loss_coef=config.aux_loss_coef, max_position_embeddings=length, tie_word_embeddings=True,
        use_cache=False,
    )  # fmt: skip
    shape._attn_implementation, shape._experts_implementation = "sdpa", implementation
    model = MixtralForCausalLM(shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)

    def step() -> None:
        batch = task.batch(config.batch_tokens, trainer.shares, trainer.random["data"])
        inputs, labels = (one.view(-1, length) for one in (batch.inputs, batch.labels))
        output = model(input_ids=inputs)
        loss = F.cross_entropy(output.logits.flatten(0, 1), labels.flatten())
        loss = loss + config.aux_loss_coef * load_balancing_loss(output.router_logits, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def load_balancing_loss(router_logits: Any, config: RunConfig) -> Any:
    """The peer's own loss."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    return load_balancing_loss_func(router_logits, config.num_experts, config.top_k)
