"""What causes the collapse, and how long a rescue takes: runs that begin even, and interventions in them. Run by
`python -m tests.bench causes`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from moe_sim import History
from moe_sim.diagnosis.final_metrics import final_metrics
from tests.bench.runs import trained

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
ALPHAS = (0.0, 0.03, 0.1, 10.0)
STEPS = 600
RESCUE_STEPS = 300
HEAD = ("| {} | busiest in the first batch, worst | half of the tokens at step (runs) | collapsed at step 600 "
        "| max load | dead | task loss |\n| --- | --- | --- | --- | --- | --- | --- |")  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What one run has shown."""

    first: float
    """The busiest expert's load in the first step."""
    half_at: float
    """The first step at which one expert has more than half of the tokens in the smoothed load; ∞ for never."""
    max_load: float
    dead: int
    task_loss: float
    collapsed: bool


def outcomes(seeds: range, steps: int, raised_at: int | None = None, **knobs: object) -> list[Outcome]:
    """Trains runs and summarizes each."""
    return [_outcome(trainer.history) for trainer in trained(seeds, steps, raised_at, **knobs)]


def _outcome(history: History) -> Outcome:
    config, end = history.initial_config, final_metrics(history, diverged=False)
    over = np.flatnonzero(history.layer().column("smoothed_load").max(1) * config.top_k > 0.5)
    dead, max_load = end.dead_experts or 0, end.max_load or 0.0
    return Outcome(
        first=float(history.layer().column("load")[0].max()),
        half_at=float(over[0] + 1) if len(over) else np.inf,
        max_load=max_load,
        dead=dead,
        task_loss=end.task_loss or np.nan,
        collapsed=max_load * config.top_k > 0.5 and dead >= config.num_experts / 2,
    )


def revived_after(seeds: range, raised_at: int, alpha: float) -> list[int]:
    """For each seed, the steps from raising α to the first one without a dead expert."""
    runs = trained(seeds, raised_at + RESCUE_STEPS, raised_at, alpha)
    return [int(np.argmax(run.history.column("dead_experts", raised_at) == 0)) + 1 for run in runs]


def row(name: str, runs: list[Outcome]) -> str:
    """One line of a table: a summary of runs."""
    loads, dead = (np.array([getattr(run, name) for run in runs]) for name in ("max_load", "dead"))
    reached = [run.half_at for run in runs if np.isfinite(run.half_at)]
    when = f"{min(reached):.0f}-{max(reached):.0f} ({len(reached)})" if reached else "never"
    losses = [run.task_loss for run in runs]
    return (f"| {name} | {100 * max(run.first for run in runs):.0f} % | {when} "
            f"| {sum(run.collapsed for run in runs)} of {len(runs)} "
            f"| {loads.mean():.2f} ({loads.min():.2f}-{loads.max():.2f}) "
            f"| {dead.mean():.1f} ({dead.min()}-{dead.max()}) | {np.mean(losses):.3f} |")  # fmt: skip


def print_causes(seeds: int, first: int) -> None:
    """Print, as Markdown, runs that begin even under several α (twice as many seeds), interventions, sizes, and
    rescues."""
    few, many = range(first, first + seeds), range(first, first + 2 * seeds)

    def table(title: str, rows: Iterable[tuple[str, dict[str, object]]], chosen: range) -> None:
        print(f"\n{HEAD.format(title)}", flush=True)
        for name, knobs in rows:
            print(row(name, outcomes(chosen, STEPS, **knobs)), flush=True)

    table("α", ((f"{alpha:g}", {"aux_loss_coef": alpha}) for alpha in ALPHAS), many)
    table("intervention, α = 0", INTERVENTIONS, few)
    table("size or task, α = 0", SIZES, few)
    print("\nTask loss at step 1000 with α = 0.1 from step …:")
    for raised_at in (0, 60, 200, 400, None):
        losses = [one.task_loss for one in outcomes(few, 1000, raised_at)]
        words = "never" if raised_at is None else raised_at
        print(f"- {words}: {np.mean(losses):.3f} ± {np.std(losses):.3f}", flush=True)
    print("\n| α raised to | steps until no expert is dead, from step 400 | from step 100 |\n| --- | --- | --- |")
    for alpha in (0.1, 0.03):
        late, early = (revived_after(few, at, alpha) for at in (400, 100))
        print(f"| {alpha} | {min(late)}-{max(late)} | {min(early)}-{max(early)} |", flush=True)
