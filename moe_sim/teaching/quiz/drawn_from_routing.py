"""Questions about capacity and selection, answered by the router's own functions."""

from __future__ import annotations

import random

import numpy as np

from moe_sim.config.run_config import RunConfig
from moe_sim.router.balancing import SelectionBias
from moe_sim.router.capacity import expert_capacity, seating_order, within_capacity
from moe_sim.teaching.quiz.drawn_from_arithmetic import random_load
from moe_sim.teaching.quiz.question import Question, Sheet
from moe_sim.teaching.quiz.runs import STEPS, WEAK, run
from moe_sim.teaching.quiz.wording import bars, listed, percent, sheet_of

TOKENS = 200
WORDS = {"position": "by position", "probability": "by probability"}


def dropped_tokens(weights: np.ndarray, capacity: int, drop_order: str) -> list[int]:
    """Returns the numbers, from 1, of the tokens that exceed one expert's capacity."""
    assigned = np.ones((len(weights), 1), bool)
    order = seating_order(assigned, weights[:, None] if drop_order == "probability" else None)
    kept = within_capacity(np.zeros((len(weights), 1), int), order, 1, capacity)
    return (np.flatnonzero(~kept[:, 0]) + 1).tolist()


def who_is_dropped(rng: random.Random, seed: int) -> Sheet | None:
    """Six tokens choose an expert with a capacity of four."""
    tokens, capacity = 6, 4
    weights = np.array(rng.sample(range(20, 90), tokens)) / 100
    by_order = {name: f"Tokens {' and '.join(map(str, dropped_tokens(weights, capacity, name)))}" for name in WORDS}
    asked = rng.choice(list(WORDS))
    other = next(name for name in WORDS if name != asked)
    best = " and ".join(str(token) for token in sorted(np.argsort(-weights)[: tokens - capacity] + 1))
    why = {
        "position": "Earlier tokens are served first, whatever their weight.",
        "probability": "Tokens with the highest weights are served first.",
    }
    return sheet_of(
        f"Six tokens choose the same expert, with weights {listed(weights, 2)} in the order of the batch. Its capacity "
        f"is {capacity}, and the drop order is {WORDS[asked]}. Which tokens are dropped?",
        (by_order[asked], why[asked]),
        (
            (by_order[other], f"That is what happens {WORDS[other]}."),
            (
                "Tokens 1 and 2",
                "By position these are served first; by probability their position in the batch does not matter.",
            ),
            (f"Tokens {best}", "Those have the highest weights; by probability they are served first."),
            ("None of them", "Six choices do not fit in a capacity of four."),
        ),
    )


def how_many_are_dropped(rng: random.Random, seed: int) -> Sheet | None:
    """The share of a real run's load that a capacity limit would drop."""
    trained = run(seed, WEAK)
    count, factor = len(trained.load), rng.choice((1.0, 1.25, 1.5))
    wanted = np.round(np.array(trained.load) * TOKENS).astype(int)
    wanted[wanted.argmax()] += TOKENS - wanted.sum()
    capacity = expert_capacity(tokens=TOKENS, num_experts=count, top_k=1, capacity_factor=factor)
    index = np.repeat(np.arange(count), wanted)[:, None]
    kept = within_capacity(index, seating_order(np.ones_like(index, bool)), count, capacity)
    room = np.maximum(capacity - wanted, 0).sum()
    return sheet_of(
        f"{TOKENS} tokens choose one of {count} experts each; the experts get {listed(wanted)}. With a capacity factor "
        f"of {factor:g} each takes {capacity}. What share of the tokens is dropped?",
        (
            percent(1 - kept.mean(), 1),
            f"The excess over {capacity}, summed over the experts: {int((~kept).sum())} of {TOKENS}.",
        ),
        (
            (
                percent(0, 1),
                "There is room for all tokens in total, but they do not move to another expert unless rerouted.",
            ),
            (percent(max(wanted.max() - capacity, 0) / TOKENS, 1), "That counts only the busiest expert."),
            (percent(room / TOKENS, 1), "That is the unused capacity."),
            (percent(wanted.max() / TOKENS, 1), "That is the load of the busiest expert, part of which is computed."),
        ),
        bars(wanted / TOKENS, f"load after {STEPS} steps at α = {trained.config.aux_loss_coef:g}, %", 1 / count),
    )


def where_does_the_bias_go(rng: random.Random, seed: int) -> Sheet | None:
    """One update of the selection bias, which starts at 0."""
    load, rate = random_load(rng, 4, 2), rng.choice((0.001, 0.003, 0.01))
    excess = load - load.mean()
    if (abs(excess) < 0.01).any() or np.allclose(abs(excess), abs(excess[0])) or (excess > 0).sum() != 2:
        return None  # two rise and two fall, so that the biases stay centred
    mechanism = SelectionBias(4)
    mechanism.after_step(load, RunConfig(num_experts=4, balancing="bias", bias_rate=rate))
    moved = mechanism.bias.numpy().astype(float)
    return sheet_of(
        f"Selection bias with a rate of {rate:g}. All biases are 0, and a step sends {listed(100 * load)}\u00a0% of "
        "the choices to experts 1 to 4. What are the biases after it?",
        (_signed(moved), "Up by the rate below the mean load, down by the rate above it. Only the sign counts."),
        (
            (_signed(-moved), "That is inverted: a busy expert has to become less attractive."),
            (_signed(-rate * excess / abs(excess).max()), "The step size is fixed, however large the excess."),
            (_signed(0 * moved), "There is no gradient here, but the bias is updated without one."),
        ),
        bars(load, "load, %", 1 / 4),
    )


def _signed(values: np.ndarray) -> str:
    return ", ".join(f"{value:+.4f}".replace("-", "−") if round(value, 4) else "0" for value in values)


QUESTIONS = (
    Question("how-many-are-dropped", "practitioner", ("capacity factor", "dropped token"), how_many_are_dropped),
    Question("who-is-dropped", "expert", ("drop order", "capacity"), who_is_dropped),
    Question("where-does-the-bias-go", "expert", ("selection bias", "bias rate"), where_does_the_bias_go),
)
