"""Questions about who finds room and who is selected, answered by the router's own functions."""

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
    """The numbers, from 1, of the tokens that one expert has no room for."""
    assigned = np.ones((len(weights), 1), bool)
    order = seating_order(assigned, weights[:, None] if drop_order == "probability" else None)
    kept = within_capacity(np.zeros((len(weights), 1), int), order, 1, capacity)
    return (np.flatnonzero(~kept[:, 0]) + 1).tolist()


def who_is_dropped(chance: random.Random, seed: int) -> Sheet | None:
    """Six tokens want one expert that takes four."""
    tokens, capacity = 6, 4
    weights = np.array(chance.sample(range(20, 90), tokens)) / 100
    by_order = {name: f"Tokens {' and '.join(map(str, dropped_tokens(weights, capacity, name)))}" for name in WORDS}
    asked = chance.choice(list(WORDS))
    other = next(name for name in WORDS if name != asked)
    best = " and ".join(str(token) for token in sorted(np.argsort(-weights)[: tokens - capacity] + 1))
    why = {
        "position": "Earlier tokens are seated first, whatever their weight.",
        "probability": "Those of highest weight are seated first.",
    }
    return sheet_of(
        f"Six tokens choose the same expert, with weights {listed(weights, 2)} in the order of the batch. Its capacity "
        f"is {capacity}, and the drop order goes {WORDS[asked]}. Who is dropped?",
        (by_order[asked], why[asked]),
        (
            (by_order[other], f"That is what happens {WORDS[other]}."),
            (
                "Tokens 1 and 2",
                "By position these are seated first; by probability their place in the batch plays no part.",
            ),
            (f"Tokens {best}", "Those have the highest weights; by probability they are seated first."),
            ("Nobody", "Six choices do not fit into a capacity of four."),
        ),
    )


def how_many_are_dropped(chance: random.Random, seed: int) -> Sheet | None:
    """The share that a capacity limit would drop of a real run's load."""
    some = run(seed, WEAK)
    count, factor = len(some.load), chance.choice((1.0, 1.25, 1.5))
    wanted = np.round(np.array(some.load) * TOKENS).astype(int)
    wanted[wanted.argmax()] += TOKENS - wanted.sum()
    capacity = expert_capacity(tokens=TOKENS, num_experts=count, top_k=1, capacity_factor=factor)
    index = np.repeat(np.arange(count), wanted)[:, None]
    kept = within_capacity(index, seating_order(np.ones_like(index, bool)), count, capacity)
    room = np.maximum(capacity - wanted, 0).sum()
    return sheet_of(
        f"{TOKENS} tokens choose one of {count} experts each; the experts get {listed(wanted)}. With a capacity factor "
        f"of {factor:g} each takes {capacity}. Which share of the tokens is dropped?",
        (
            percent(1 - kept.mean(), 1),
            f"What is above {capacity}, summed over the experts: {int((~kept).sum())} of {TOKENS}.",
        ),
        (
            (percent(0, 1), "There is room for all, but tokens do not move to another expert unless rerouted."),
            (percent(max(wanted.max() - capacity, 0) / TOKENS, 1), "That counts the busiest expert only."),
            (percent(room / TOKENS, 1), "That is the room that stays empty."),
            (percent(wanted.max() / TOKENS, 1), "That is the load of the busiest expert; part of it is computed."),
        ),
        bars(wanted / TOKENS, f"load after {STEPS} steps at α = {some.config.aux_loss_coef:g}, %", 1 / count),
    )


def where_does_the_bias_go(chance: random.Random, seed: int) -> Sheet | None:
    """One update of the selection bias, which starts at 0."""
    load, rate = random_load(chance, 4, 2), chance.choice((0.001, 0.003, 0.01))
    excess = load - load.mean()
    if (abs(excess) < 0.01).any() or np.allclose(abs(excess), abs(excess[0])):
        return None
    mechanism = SelectionBias(4)
    mechanism.after_step(load, RunConfig(num_experts=4, balancing="bias", bias_rate=rate))
    moved = mechanism.bias.numpy().astype(float)
    return sheet_of(
        f"Selection bias with a rate of {rate:g}. All biases are 0, and a step sends {listed(100 * load)}\u00a0% of "
        "the choices to experts 1 to 4. What are the biases after it?",
        (_signed(moved), "Up by the rate below the mean load, down by the rate above it: only the sign counts."),
        (
            (_signed(-moved), "Turned round: a busy expert has to become less attractive."),
            (_signed(-rate * excess / abs(excess).max()), "The step has one size, however large the excess is."),
            (_signed(0 * moved), "The loss has no gradient here, but the bias is moved without one."),
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
