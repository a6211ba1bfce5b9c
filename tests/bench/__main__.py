"""Benchmarks as ratios measured in one run, and the tables of the README: `python -m tests.bench` lists the commands.

These are scripts, not tests: machines are noisy. Leave the machine idle while one runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from moe_sim import RunConfig, Trainer, advance
from moe_sim.diagnosis.final_metrics import final_metrics
from moe_sim.router.routing import Routing
from moe_sim.trainer.moe import Experts, linear_init
from tests.bench.interventions import print_causes
from tests.bench.language import print_language
from tests.bench.methods import print_costs, print_limits, print_methods
from tests.bench.records import print_records
from tests.bench.runs import trained
from tests.bench.sweep import print_sweep
from tests.bench.timing import medians

RUNS, STRIDE = (1, 4, 8, 16, 24), 5
SHAPES: tuple[tuple[str, dict[str, object]], ...] = (
    ("defaults", {}), ("64 experts, top-2", {"num_experts": 64, "top_k": 2}), ("text", {"task": "text"}),
    ("1,024 tokens, top-2", {"batch_tokens": 1024, "top_k": 2}),
)  # fmt: skip
CELLS = [(256, 8, 1), (256, 8, 2), (256, 64, 2), (1024, 8, 1), (1024, 8, 2), (1024, 64, 2)]


class Dense(nn.Module):
    """The floor, a lower bound: one MLP with the arithmetic of the active experts, T·K rows through D → H → D."""

    def __init__(self, width: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_in = nn.Parameter(linear_init(width, (width, hidden), generator))
        self.bias_in = nn.Parameter(torch.zeros(hidden))
        self.weight_out = nn.Parameter(linear_init(hidden, (hidden, width), generator))
        self.bias_out = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias_out, torch.addmm(self.bias_in, x, self.weight_in).relu(), self.weight_out)


class Loop(Experts):
    """The textbook layer: a Python loop over the experts that have tokens."""

    def forward(self, x_TD: Tensor, routing: Routing) -> Tensor:
        out = torch.zeros_like(x_TD)
        for expert in routing.expert_index.unique().tolist():
            token, choice = torch.where(routing.expert_index == expert)
            hidden = torch.addmm(self.bias_in[expert], x_TD[token], self.weight_in[expert]).relu()
            result = torch.addmm(self.bias_out[expert], hidden, self.weight_out[expert])
            out = out.index_add(0, token, result * routing.combine_weights[token, choice, None])
        return out


def training_step(layer: nn.Module, forward: Callable[[], Tensor], parameters: list[Tensor]) -> Callable[[], None]:
    """Forward, loss, backward, Adam."""
    optimizer = torch.optim.Adam([*layer.parameters(), *parameters], lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        forward().square().mean().backward()
        optimizer.step()

    return step


def contestants(tokens: int, num_experts: int, top_k: int, width: int, hidden: int) -> dict[str, Callable[[], None]]:
    """One training step of the floor, our layer and the peers, with balanced and with collapsed routing."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, width, generator=random)
    balanced = torch.stack([torch.randperm(num_experts, generator=random)[:top_k] for _ in range(tokens)])
    collapsed = torch.arange(top_k).expand(tokens, top_k).contiguous()

    def routed(layer: nn.Module, index: Tensor, call: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        router = nn.Parameter(linear_init(width, (width, num_experts), random))
        return training_step(layer, lambda: call(index, (x @ router).softmax(1).gather(1, index)), [router])

    def own(kind: type[Experts], index: Tensor) -> Callable[[], None]:
        layer = kind(num_experts, width, hidden, random)
        nothing = x.new_empty(0)
        return routed(layer, index, lambda i, w: layer(x, Routing(nothing, nothing, 0.0, nothing, i, None, i, w, None)))

    dense, rows = Dense(width, hidden, random), x.repeat(top_k, 1)
    steps = {
        "floor": training_step(dense, lambda: dense(rows), []),
        "ours": own(Experts, balanced),
        "ours, collapsed": own(Experts, collapsed),
        "loop": own(Loop, balanced),
        "loop, collapsed": own(Loop, collapsed),
    }
    try:
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralExperts
    except ImportError:
        return steps
    for implementation in ("eager", "grouped_mm"):
        # Three matrices instead of two: two thirds of the hidden size do the same arithmetic.
        config = MixtralConfig(
            hidden_size=width, intermediate_size=2 * hidden // 3, num_local_experts=num_experts,
            num_experts_per_tok=top_k, hidden_act="relu",
        )  # fmt: skip
        config._experts_implementation = implementation
        for name, index in (("", balanced), (", collapsed", collapsed)):
            layer = MixtralExperts(config)
            for parameter in layer.parameters():
                nn.init.normal_(parameter, std=0.1)
            steps[f"Mixtral {implementation}{name}"] = routed(layer, index, lambda i, w, layer=layer: layer(x, i, w))
    return steps


def bench_step(options: argparse.Namespace) -> None:
    """Print the table of training steps: medians in ms, and ratios to the peers and the floor."""
    torch.set_num_threads(options.threads)
    print(f"one training step (forward, backward, Adam), ms; D={options.width}, H={options.hidden}, "
          f"{options.threads} threads, torch {torch.__version__}")  # fmt: skip
    ours: dict[tuple[int, int, int], float] = {}
    for cell in CELLS:
        result = medians(contestants(*cell, options.width, options.hidden), options.repeats)
        ours[cell] = result["ours"]
        print(f"\nT, E, K = {cell}: " + " | ".join(f"{name} {value:.2f}" for name, value in result.items()))
        peers = {n: v for n, v in result.items() if not n.startswith(("ours", "floor"))}
        for suffix in ("", ", collapsed"):
            best = min(v for n, v in peers.items() if n.endswith("collapsed") == bool(suffix))
            print(f"  fastest peer / ours{suffix}: {best / result['ours' + suffix]:.2f}")
        print(f"  ours / floor: {result['ours'] / result['floor']:.2f}   "
              f"collapsed / balanced: {result['ours, collapsed'] / result['ours']:.2f}")  # fmt: skip
    print("\nE = 8 → 64 at K = 2: " + ", ".join(
        f"T = {tokens}: {ours[tokens, 64, 2] / ours[tokens, 8, 2]:.2f}" for tokens in (256, 1024)
    ))  # fmt: skip
    torch.set_num_threads(1)
    trainer = Trainer(RunConfig())
    trainer.run(50)
    start = time.perf_counter()
    trainer.run(300)
    print(f"Trainer.step() with the defaults, one thread: {(time.perf_counter() - start) / 300 * 1000:.2f} ms")


def bench_together(options: argparse.Namespace) -> None:
    """Print what a run and step costs in a computation of several runs, and the ratio to a run alone."""
    torch.set_num_threads(1)
    print(f"ms of a run and step with everything that it records, one thread, torch {torch.__version__}\n")
    print("| | " + " | ".join(f"R = {runs}" for runs in RUNS) + " |\n|" + " --- |" * (len(RUNS) + 1))
    for words, knobs in SHAPES:
        groups = {runs: [Trainer(RunConfig(seed=seed, **knobs)) for seed in range(runs)] for runs in RUNS}  # type: ignore[arg-type]
        steps = {str(runs): (lambda group=group: advance(group, STRIDE)) for runs, group in groups.items()}
        measured = medians(steps, options.repeats)
        times = {runs: measured[str(runs)] / STRIDE / runs for runs in RUNS}
        cells = (f"{ms:.2f} ({times[1] / ms:.1f}×)" for ms in times.values())
        print(f"| {words} | " + " | ".join(cells) + " |", flush=True)


def finish(seeds: range, alpha: float, steps: int, raised_at: int = 0, **changes: object) -> np.ndarray:
    """Final metrics of each run: max load, dead experts, load-balancing loss, task loss, specialization, dropped
    fraction."""
    if raised_at:
        runs = trained(seeds, steps, raised_at, alpha, **changes)
    else:
        runs = trained(seeds, steps, aux_loss_coef=alpha, **changes)
    ends = [final_metrics(run.history, diverged=run.diverged) for run in runs]
    return np.array([
        (end.max_load, end.dead_experts or 0, end.balance_loss, end.task_loss, end.specialization, end.dropped_fraction)
        for end in ends
    ], dtype=float)  # fmt: skip


def bench_alpha(options: argparse.Namespace) -> None:
    """Print the table of α as Markdown: metrics at step 600, and the task loss at step 1000 after a late rescue."""
    seeds = range(options.seeds)
    print(f"Topics, defaults, {options.seeds} seeds, step 600 (mean ± standard deviation over seeds)\n")
    print("| α | max load | dead of 8 | load-balancing loss | task loss | specialization |")
    print("| --- | --- | --- | --- | --- | --- |")
    for alpha in (0, 0.001, 0.01, 0.03, 0.1, 1, 10):
        rows = finish(seeds, alpha, 600)
        digits = (2, 1, 2, 3, 2)
        cells = [f"{m:.{d}f} ± {s:.{d}f}" for m, s, d in zip(rows.mean(0), rows.std(0), digits, strict=False)]
        print(f"| {alpha:g} | " + " | ".join(cells) + " |", flush=True)
        if alpha == 0:
            collapsed = int(((rows[:, 0] > 0.5) & (rows[:, 1] >= 4)).sum())
    print(f"\ncollapsed at α = 0 (max load > 0.5 and at least 4 of 8 dead): {collapsed} of {options.seeds} seeds")
    print("\nTask loss at step 1000:")
    for words, alpha, raised_at in (
        ("α = 0.1 from the start", 0.1, 0), ("from step 200", 0.1, 200), ("from step 400", 0.1, 400), ("α = 0", 0, 0),
    ):  # fmt: skip
        losses = finish(seeds, alpha, 1000, raised_at)[:, 3]
        print(f"- {words}: {losses.mean():.3f} ± {losses.std():.3f}", flush=True)
    print("\nStep 600, α = 0 (max load; dead; task loss; dropped at the end):")
    for words, alpha, changes in (
        ("Gaussian noise σ = 1 alone", 0, {"router_noise": "gaussian", "noise_std": 1.0}),
        ("no shared direction", 0, {"shared_direction": 0.0}),
        ("capacity factor 1", 0, {"capacity_factor": 1.0}),
        ("capacity factor 1, α = 0.03", 0.03, {"capacity_factor": 1.0}),
        ("16 experts", 0, {"num_experts": 16}),
        ("top-2", 0, {"top_k": 2}),
        ("top-4", 0, {"top_k": 4}),
    ):
        rows = finish(seeds, alpha, 600, **changes)
        load, dead, _, loss, _, dropped = rows.mean(0)
        spread = f"{rows[:, 0].min():.2f}-{rows[:, 0].max():.2f}"
        print(f"- {words}: {load:.2f} ({spread}); {dead:.1f}; {loss:.3f}; {dropped:.0%}", flush=True)


def bench_page(options: argparse.Namespace) -> None:
    """Measure the page in a real browser, which the other benchmarks do not import."""
    from tests.bench.page import measure

    measure(options.chrome)


def bench_memory(options: argparse.Namespace) -> None:
    """Measure a page's memory in a real browser, which the other benchmarks do not import."""
    from tests.bench.memory import print_memory

    print_memory(options.chrome)


def bench_tick(options: argparse.Namespace) -> None:
    """Measure a live tick in a real browser, which the other benchmarks do not import."""
    from tests.bench.tick import print_ticks

    print_ticks(options.chrome)


def main() -> None:
    """Parse the command line and run one benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    step = commands.add_parser("step", help="a training step compared with the floor and the peers")
    step.add_argument("--width", type=int, default=64)
    step.add_argument("--hidden", type=int, default=96)
    step.add_argument("--threads", type=int, default=2)
    step.add_argument("--repeats", type=int, default=200)
    step.set_defaults(run=bench_step)
    together = commands.add_parser("together", help="many runs in one computation compared with a run alone")
    together.add_argument("--repeats", type=int, default=8)
    together.set_defaults(run=bench_together)
    alpha = commands.add_parser("alpha", help="the table of α in the README")
    alpha.add_argument("--seeds", type=int, default=10)
    alpha.set_defaults(run=bench_alpha)
    methods = commands.add_parser("methods", help="the table of balancing mechanisms in the README")
    methods.add_argument("--seeds", type=int, default=10)
    methods.add_argument("--steps", type=int, default=600)
    methods.set_defaults(run=lambda options: print_methods(options.seeds, options.steps))
    causes = commands.add_parser("causes", help="runs that begin even, and interventions that show why they collapse")
    causes.add_argument("--seeds", type=int, default=10)
    causes.add_argument("--first-seed", type=int, default=0)
    causes.set_defaults(run=lambda options: print_causes(options.seeds, options.first_seed))
    limits = commands.add_parser("limits", help="what a capacity limit costs in evaluation, mixed and sorted")
    limits.add_argument("--seeds", type=int, default=5)
    limits.add_argument("--steps", type=int, default=600)
    limits.set_defaults(run=lambda options: print_limits(options.seeds, options.steps))
    mechanisms = commands.add_parser("mechanisms", help="a step with each mechanism relative to the default one")
    mechanisms.add_argument("--repeats", type=int, default=300)
    mechanisms.set_defaults(run=lambda options: print_costs(options.repeats))
    sweep = commands.add_parser("sweep", help="12 α × 5 seeds: two workers, one worker, transformers in sequence")
    sweep.add_argument(
        "--peers", type=int, default=3, help="number of runs to measure with transformers' Mixtral block"
    )
    sweep.set_defaults(run=lambda options: print_sweep(options.peers))
    language = commands.add_parser(
        "language", help="the language model: its step beside transformers' Mixtral, its loss"
    )
    language.add_argument("--repeats", type=int, default=100)
    language.set_defaults(run=lambda options: print_language(options.repeats))
    records = commands.add_parser("records", help="a step with and without its record")
    records.add_argument("--repeats", type=int, default=150)
    records.set_defaults(run=lambda options: print_records(options.repeats))
    page = commands.add_parser("page", help="time to the first chart, slider latency, message sizes, in a real browser")
    page.add_argument("--chrome", default=None, help="path of a Chromium; found by itself otherwise")
    page.set_defaults(run=bench_page)
    memory = commands.add_parser("memory", help="the memory of a page with a large run, in a real browser")
    memory.add_argument("--chrome", default=None, help="path of a Chromium; found by itself otherwise")
    memory.set_defaults(run=bench_memory)
    tick = commands.add_parser(
        "tick", help="a live tick compared with st.plotly_chart in a fragment, in a real browser"
    )
    tick.add_argument("--chrome", default=None, help="path of a Chromium; found by itself otherwise")
    tick.set_defaults(run=bench_tick)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
