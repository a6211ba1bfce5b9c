"""What causes the collapse: a run that begins even, and interventions in it. Run by `python -m tests.bench causes`."""

from __future__ import annotations

import numpy as np
import torch

from moe_sim import History, RunConfig, Trainer
from moe_sim.diagnosis.final_metrics import final_metrics

INTERVENTIONS: tuple[tuple[str, dict[str, object]], ...] = (
    ("none", {}),
    ("experts frozen", {"frozen_experts": True}),
    ("experts and head frozen", {"frozen_experts": True, "frozen_head": True}),
    ("head frozen", {"frozen_head": True}),
    ("router frozen", {"frozen_router": True}),
    ("router blind", {"router_blind": True}),
    ("no shared direction", {"shared_direction": 0.0}),
    ("copies", {"expert_init": "copies"}),
    ("copies, experts frozen", {"expert_init": "copies", "frozen_experts": True}),
)
SIZES: tuple[tuple[str, dict[str, object]], ...] = (
    ("E = 4", {"num_experts": 4}),
    ("E = 16", {"num_experts": 16}),
    ("k = 2", {"top_k": 2}),
    ("k = 4", {"top_k": 4}),
    ("text", {"task": "text", "batch_tokens": 512, "expert_hidden_size": 48}),
)
STEPS = 600


def trained(seed: int, steps: int = STEPS, raised_at: int | None = None, **knobs: object) -> History:
    """A run that begins even; with `raised_at`, α becomes 0.1 after that many steps."""
    trainer = Trainer(RunConfig(seed=seed, **knobs))  # type: ignore[arg-type]
    if raised_at is not None:
        trainer.run(raised_at)
        trainer.update(aux_loss_coef=0.1)
    return trainer.run(steps - trainer.steps_done)


def half_at(history: History) -> float:
    """The first step at which one expert has more than half of the tokens in the smoothed load; ∞ for never."""
    share = history.column("smoothed_load").max(1) * history.knob("top_k")
    over = np.flatnonzero(share > 0.5)
    return float(over[0] + 1) if len(over) else np.inf


def row(name: str, histories: list[History]) -> str:
    """One line of a table: a summary of runs."""
    ends = [final_metrics(history, diverged=False) for history in histories]
    loads = np.array([end.max_load for end in ends])
    halves = np.array([half_at(history) for history in histories])
    dead = np.array([end.dead_experts or 0 for end in ends])
    num_experts = histories[0].initial_config.num_experts
    collapsed = int(((loads * histories[0].initial_config.top_k > 0.5) & (dead >= num_experts / 2)).sum())
    reached = halves[np.isfinite(halves)]
    when = f"{reached.min():.0f}-{reached.max():.0f} ({len(reached)})" if len(reached) else "never"
    loss = np.mean([end.task_loss for end in ends])
    first = max(history.column("load")[0].max() for history in histories)
    return (f"| {name} | {100 * first:.0f} % | {when} | {collapsed} of {len(ends)} | {loads.mean():.2f} "
            f"({loads.min():.2f}-{loads.max():.2f}) | {dead.mean():.1f} | {loss:.3f} |")  # fmt: skip


HEAD = ("| {} | busiest in the first batch, worst | half of the tokens at step (runs) | collapsed at step 600 "
        "| max load | dead | task loss |\n| --- | --- | --- | --- | --- | --- | --- |")  # fmt: skip


def print_causes(seeds: int, first: int) -> None:
    """Print, as Markdown, a run that begins even under several α and sizes, rescues, and interventions."""
    torch.set_num_threads(1)
    chosen = range(first, first + seeds)
    print(f"Even start, 200 steps of warm-up, {seeds} seeds from {first}, step {STEPS}\n\n{HEAD.format('α')}")
    for alpha in (0.0, 0.001, 0.01, 0.03, 0.1, 1.0, 10.0):
        print(row(f"{alpha:g}", [trained(seed, aux_loss_coef=alpha) for seed in chosen]), flush=True)
    print(f"\n{HEAD.format('intervention, α = 0')}")
    for name, knobs in INTERVENTIONS:
        print(row(name, [trained(seed, **knobs) for seed in chosen]), flush=True)
    print(f"\n{HEAD.format('size or task, α = 0')}")
    for name, knobs in SIZES:
        print(row(name, [trained(seed, **knobs) for seed in chosen]), flush=True)
    print("\nTask loss at step 1000 with α = 0.1 from step …:")
    for raised_at in (0, 60, 200, 400, None):
        losses = [
            final_metrics(trained(seed, 1000, raised_at), diverged=False).task_loss for seed in chosen
        ]  # fmt: skip
        print(
            f"- {'never' if raised_at is None else raised_at}: {np.mean(losses):.3f} ± {np.std(losses):.3f}", flush=True
        )
