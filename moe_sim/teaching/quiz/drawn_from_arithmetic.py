"""Questions with random numbers, answered by the simulation's own functions."""

from __future__ import annotations

import random
from typing import get_args

import numpy as np
import torch

from moe_sim import losses, metrics
from moe_sim.config.run_config import RunConfig
from moe_sim.router.capacity import expert_capacity
from moe_sim.router.routing import route
from moe_sim.teaching.quiz.question import Question, Sheet
from moe_sim.teaching.quiz.wording import bars, listed, percent, sheet_of

CONVENTIONS: tuple[losses.Convention, ...] = get_args(losses.Convention)
MEANING = {
    "per_choice": "all choices over T·K",
    "first_choice": "first choices over T",
    "huggingface": "all choices over T",
}


def random_load(rng: random.Random, num_experts: int, smallest: int = 0) -> np.ndarray:
    """Returns (E,) random shares in whole percents that sum to 1."""
    cuts = sorted(rng.sample(range(1, 100 - smallest * num_experts), num_experts - 1))
    parts = np.diff([0, *cuts, 100 - smallest * num_experts]) + smallest
    return parts / 100


def loss_in_a_convention(rng: random.Random, seed: int) -> Sheet | None:
    """The load-balancing loss of ten tokens with two choices each, in one of three conventions."""
    tokens, num_experts = 10, 4
    index = torch.tensor([rng.sample((0, 0, 0, 1, 1, 2, 3), 7) for _ in range(tokens)])
    first = index[:, 0]
    second = torch.tensor([next(e for e in row if e != row[0]) for row in index.tolist()])
    chosen = torch.stack([first, second], dim=1)
    importance = random_load(rng, num_experts, 5)
    probs = torch.tensor(np.tile(importance, (tokens, 1)))
    value = {
        name: losses.load_balancing_loss(router_probs=probs, expert_index=chosen, convention=name).item()
        for name in CONVENTIONS
    }
    asked = rng.choice(CONVENTIONS)
    everyone, firsts = (torch.bincount(part.flatten(), minlength=num_experts).tolist() for part in (chosen, first))
    return sheet_of(
        f"{tokens} tokens, top-2 of {num_experts} experts. The experts got {listed(everyone)} choices in all, "
        f"{listed(firsts)} of them first choices. P is {listed(importance, 2)}. What is the load-balancing loss in the "
        f"convention {asked}?",
        (f"{value[asked]:.3f}", f"E · Σ f·P, where f counts {MEANING[asked]}."),
        (
            *(
                (f"{value[name]:.3f}", f"That is {name}, where f counts {MEANING[name]}.")
                for name in CONVENTIONS
                if name != asked
            ),
            (f"{value[asked] / num_experts:.3f}", "That is Σ f·P; the factor E is missing."),
        ),
    )


def what_is_the_capacity(rng: random.Random, seed: int) -> Sheet | None:
    """The capacity for random sizes for which rounding matters."""
    tokens, num_experts = rng.choice((100, 250, 500, 1000)), rng.choice((6, 12, 16, 24))
    top_k, factor = rng.choice((2, 4)), rng.choice((1.25, 1.5))
    capacity = expert_capacity(tokens=tokens, num_experts=num_experts, top_k=top_k, capacity_factor=factor)
    exact = factor * tokens * top_k / num_experts
    if exact == capacity:
        return None
    bare = expert_capacity(tokens=tokens, num_experts=num_experts, top_k=top_k, capacity_factor=1.0)
    single = expert_capacity(tokens=tokens, num_experts=num_experts, top_k=1, capacity_factor=factor)
    return sheet_of(
        f"A batch of {tokens} tokens, {num_experts} experts, top-{top_k}, capacity factor {factor:g}. How many token "
        "choices does each expert take at most?",
        (f"{capacity}", f"⌈{factor:g} × {tokens} × {top_k} / {num_experts}⌉ = ⌈{exact:.2f}⌉ = {capacity}."),
        (
            (f"{capacity - 1}", f"{exact:.2f} is rounded up, not down."),
            (f"{bare}", "That leaves out the capacity factor."),
            (f"{single}", f"Each token makes {top_k} choices: K belongs in the formula."),
        ),
    )


def what_is_the_imbalance_ratio(rng: random.Random, seed: int) -> Sheet | None:
    """max f / min f, ∞ if an expert got nothing."""
    load = random_load(rng, rng.choice((4, 5)), 2)
    if rng.random() < 0.5:
        idlest = int(load.argmin())
        load[load.argmax()] += load[idlest]
        load[idlest] = 0
    ratio, count = float(metrics.imbalance_ratio(load)), len(load)
    missing = "An expert got nothing, and dividing by 0 gives ∞."
    return sheet_of(
        f"{count} experts got {listed(100 * load)}\u00a0% of the token choices. What is the imbalance ratio?",
        (
            f"{ratio:.2f}" if np.isfinite(ratio) else "∞",
            missing if np.isinf(ratio) else f"max f / min f = {load.max():.2f} / {load.min():.2f}.",
        ),
        (
            (f"{metrics.max_violation(load) + 1:.2f}", "That is max over mean, E·max f."),
            (f"{metrics.max_violation(load):.2f}", "That is MaxVio, E·max f − 1."),
            (f"{load.max() / load[load > 0].min():.2f}", f"That ignores the expert without tokens. {missing}"),
            ("∞", "∞ only if an expert got nothing at all."),
        ),
        bars(load, "load, %", 1 / count),
    )


def how_busy_are_the_devices(rng: random.Random, seed: int) -> Sheet | None:
    """The efficiency for a given MaxVio."""
    load = random_load(rng, 8, 2)
    violation, efficiency = float(metrics.max_violation(load)), float(metrics.parallel_efficiency(load))
    if violation < 1.1:
        return None
    return sheet_of(
        f"A training log says MaxVio {violation:.2f} for a layer with one expert on each of eight devices. What share "
        "of the time do the devices work rather than wait?",
        (percent(efficiency), f"Efficiency is 1/(MaxVio + 1) = 1/{violation + 1:.2f}."),
        (
            (percent(1 / violation), "MaxVio is the excess over the even share; add the share itself first."),
            (percent(max(0.0, 1 - violation / 7)), "7 is the largest possible MaxVio, but time is not linear in it."),
            (percent(violation / (violation + 1)), "That is the share of the time they wait."),
        ),
    )


def what_is_the_weight(rng: random.Random, seed: int) -> Sheet | None:
    """The renormalized combine weight of a first choice."""
    probs = np.sort(random_load(rng, 4, 5))[::-1]
    if probs[0] - probs[1] < 0.05 or probs[1] - probs[2] < 0.02:
        return None
    logits = torch.tensor(np.log(probs)[None])
    weights = route(logits, RunConfig(num_experts=4, top_k=2, renormalize=True)).combine_weights
    softened = 1 / (1 + np.exp(probs[1] - probs[0]))
    return sheet_of(
        f"A router gives four experts the probabilities {listed(probs, 2)}. With top-2 and renormalized weights, what "
        "is the combine weight of the first choice?",
        (
            f"{weights[0, 0].item():.2f}",
            f"{probs[0]:.2f} / ({probs[0]:.2f} + {probs[1]:.2f}): the kept weights sum to 1.",
        ),
        (
            (f"{probs[0]:.2f}", "That is its weight without renormalization, as in Switch."),
            ("0.50", "The two share the output in proportion to their probabilities, not equally."),
            (
                f"{softened:.2f}",
                "That is a second softmax, over the probabilities. Renormalizing only divides by their sum.",
            ),
        ),
    )


QUESTIONS = (
    Question("what-is-the-capacity", "beginner", ("capacity", "capacity factor"), what_is_the_capacity),
    Question("what-is-the-imbalance-ratio", "beginner", ("imbalance ratio", "load"), what_is_the_imbalance_ratio),
    Question("what-is-the-weight", "practitioner", ("renormalize", "combine weight"), what_is_the_weight),
    Question("how-busy-are-the-devices", "practitioner", ("MaxVio", "efficiency"), how_busy_are_the_devices),
    Question("loss-in-a-convention", "expert", ("convention", "load-balancing loss"), loss_in_a_convention),
)
