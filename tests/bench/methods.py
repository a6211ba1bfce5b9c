"""The effect of each balancing mechanism on the topics task, and its cost.

Run by `python -m tests.bench methods | mechanisms | limits`.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from moe_sim import RunConfig, Trainer
from moe_sim.diagnosis.final_metrics import final_metrics
from moe_sim.router.balancing import METHODS
from tests.bench.runs import trained

SEQUENCES: dict[str, object] = {"sequence_tokens": 16, "aux_loss_coef": 0.1}
ROWS: tuple[tuple[str, dict[str, object]], ...] = (
    ("none", {"balancing": "none"}),
    ("load-balancing loss, α = 0.03", {"aux_loss_coef": 0.03}),
    ("load-balancing loss, α = 0.1", {"aux_loss_coef": 0.1}),
    ("importance loss, α = 0.1", {"balancing": "importance", "aux_loss_coef": 0.1}),
    ("load loss, σ = 1/8, α = 0.1", {"balancing": "load", "aux_loss_coef": 0.1}),
    ("importance and load, σ = 1/8, α = 0.1", {"balancing": "importance_and_load", "aux_loss_coef": 0.1}),
    ("selection bias, rate 0.01", {"balancing": "bias"}),
    ("selection bias, rate 0.001", {"balancing": "bias", "bias_rate": 0.001}),
    ("expert choice", {"balancing": "expert_choice"}),
    ("Sinkhorn, 20 iterations", {"balancing": "sinkhorn"}),
    ("sigmoid scores, α = 0.03", {"score_function": "sigmoid", "aux_loss_coef": 0.03}),
    ("sigmoid scores, selection bias, rate 0.01", {"score_function": "sigmoid", "balancing": "bias"}),
    ("selection bias, proportional, rate 0.01", {"balancing": "bias", "bias_update": "proportional"}),
    ("one shared expert, none", {"shared_experts": 1, "balancing": "none"}),
    ("one shared expert, α = 0.03", {"shared_experts": 1, "aux_loss_coef": 0.03}),
    ("hash", {"balancing": "hash"}),
    ("sequences of 16, loss per sequence, α = 0.1", SEQUENCES | {"balance_scope": "sequence"}),
    ("sequences of 16, loss per micro-batch, α = 0.1", SEQUENCES | {"balance_scope": "micro_batch"}),
    ("sequences of 16, loss over the batch, α = 0.1", SEQUENCES),
    ("sequences of 16, running average, α = 0.1", SEQUENCES | {"balance_scope": "running"}),
    ("Gaussian noise alone, σ = 1/8", {"router_noise": "gaussian"}),
    ("Gaussian noise alone, σ = 1", {"router_noise": "gaussian", "noise_std": 1.0}),
    ("Gaussian noise alone, σ = 3", {"router_noise": "gaussian", "noise_std": 3.0}),
    ("learned noise alone", {"router_noise": "learned"}),
    ("jitter alone, ε = 1/8", {"router_noise": "jitter"}),
    ("capacity factor 1 alone", {"capacity_factor": 1.0}),
    ("capacity factor 1 alone, reroute", {"capacity_factor": 1.0, "overflow": "reroute"}),
)
HEAD = ("mechanism", "max load", "worst seed", "dead of 8", "task loss", "specialization", "unserved",
        "max load, inference", "task loss, inference")  # fmt: skip


def outcome(trainer: Trainer) -> list[float]:
    """Final metrics: max load, dead experts, task loss, specialization, unserved tokens in percent; then max load and
    task loss at inference."""
    end = final_metrics(trainer.history, diverged=trainer.diverged)
    return [
        end.max_load, float(end.dead_experts or 0), end.task_loss, end.specialization, 100 * end.unserved_fraction,
        end.eval_max_load, end.eval_task_loss,
    ]  # fmt: skip


def print_methods(seeds: int, steps: int) -> None:
    """Print the table of all mechanisms as Markdown: means and standard deviations over seeds."""
    print(f"Topics, defaults, {seeds} seeds, step {steps} (mean ± standard deviation over seeds)\n")
    print("| " + " | ".join(HEAD) + " |\n|" + " --- |" * len(HEAD))
    for name, changes in ROWS:
        rows = np.array([outcome(trainer) for trainer in trained(range(seeds), steps, **changes)])
        load, dead, loss, special, unserved, inference, inference_loss = (
            f"{mean:.{digits}f} ± {std:.{digits}f}"
            for mean, std, digits in zip(rows.mean(0), rows.std(0), (2, 1, 3, 2, 0, 2, 3), strict=True)
        )
        cells = (name, load, f"{rows[:, 0].max():.2f}", dead, loss, special, f"{unserved} %", inference, inference_loss)
        print("| " + " | ".join(cells) + " |", flush=True)


def print_limits(seeds: int, steps: int) -> None:
    """Print the held-out task loss of healthy runs without a capacity limit and with several, as Markdown."""
    print(f"Topics, α = 0.1, {seeds} seeds, mean ± standard deviation of the last 10 evaluations up to step {steps}\n")
    print("| capacity factor in evaluation | no limit | mixed | sorted by topic |\n| --- | --- | --- | --- |")
    columns = ("eval_task_loss", "eval_limited_loss", "eval_sorted_loss")
    for factor in (1.0, 1.25, 2.0):
        runs = trained(range(seeds), steps, aux_loss_coef=0.1, eval_capacity_factor=factor)
        losses = np.array([[np.nanmean(run.history.column(name)[-100:]) for name in columns] for run in runs])
        cells = (f"{mean:.3f} ± {std:.3f}" for mean, std in zip(losses.mean(0), losses.std(0), strict=True))
        print(f"| {factor:g} | " + " | ".join(cells) + " |", flush=True)


def print_costs(repeats: int) -> None:
    """Print the time of `Trainer.step()` with each mechanism relative to the load-balancing loss, measured in turns."""
    torch.set_num_threads(1)
    knobs: dict[str, dict[str, object]] = {
        "sigmoid": {"score_function": "sigmoid"},
        "one shared expert": {"shared_experts": 1},
        "per sequence": {"balance_scope": "sequence", "sequence_tokens": 16},
        "per micro-batch": {"balance_scope": "micro_batch"},
        "running average": {"balance_scope": "running"},
        "evaluation with a limit": {"eval_capacity_factor": 1.0},
    }
    for size in (dict(num_experts=8, top_k=1), dict(num_experts=8, top_k=2), dict(num_experts=64, top_k=2)):
        trainers = {
            name: Trainer(RunConfig(balancing=name, aux_loss_coef=0.1, **size))  # type: ignore[arg-type]
            for name in METHODS
        }
        trainers |= {
            f"{noise} noise": Trainer(RunConfig(aux_loss_coef=0.1, router_noise=noise, **size))  # type: ignore[arg-type]
            for noise in ("gaussian", "learned", "jitter")
        }
        trainers |= {
            overflow: Trainer(RunConfig(aux_loss_coef=0.1, capacity_factor=1.0, overflow=overflow, **size))  # type: ignore[arg-type]
            for overflow in ("drop", "reroute")
        }
        trainers |= {
            name: Trainer(RunConfig(aux_loss_coef=0.1, **size, **changes))  # type: ignore[arg-type]
            for name, changes in knobs.items()
        }
        times: dict[str, list[float]] = {name: [] for name in trainers}
        for trainer in trainers.values():
            trainer.run(50)
        for _ in range(repeats):
            for name, trainer in trainers.items():
                start = time.perf_counter()
                trainer.step()
                times[name].append(time.perf_counter() - start)
        base = statistics.median(times["load_balancing"])
        print(f"\n{size}: load_balancing {1000 * base:.2f} ms per step; the others relative to it:")
        print(", ".join(f"{name} {statistics.median(values) / base:.2f}" for name, values in times.items()))
