"""Questions about what α did to real runs."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np

from moe_sim.teaching.quiz.question import Option, Question, Sheet
from moe_sim.teaching.quiz.runs import (
    AVERAGED,
    EXCESSIVE,
    HEALTHY,
    LOPSIDED,
    RESCUE_ALPHA,
    RESCUE_STEPS,
    STEPS,
    WEAK,
    rescued_run,
    run,
)
from moe_sim.teaching.quiz.wording import bars, line, listed, percent, sheet_of

RAISED_AT = (50, 90, 130, 170)
SPACING = 40
"""Steps between two of them: a rescue shows well before the next one."""
APART = 1.15
"""Factor between the largest loads of runs that one is asked to tell apart."""
TO_DO = {
    "Collapsed": "Raise α to between 0.03 and 0.1",
    "Over-balanced": "Lower α to between 0.01 and 0.1",
    "Balanced": "Leave α as it is",
}
"""What the diagnosis advises, by its state."""


def which_alpha(chance: random.Random, seed: int) -> Sheet | None:
    """Four runs that differ in α only; a smaller α leaves a larger load."""
    runs = [run(seed, changes) for changes in (LOPSIDED, WEAK, HEALTHY, EXCESSIVE)]
    largest = [max(some.load) for some in runs]
    if any(more < APART * less for more, less in pairwise(largest)):
        return None
    asked = chance.randrange(len(runs))
    options = [
        Option(
            f"{listed(100 * np.array(some.load), 1)}\u00a0%",
            f"This is α = {some.config.aux_loss_coef:g}: the busiest expert takes {percent(max(some.load))}, the mean "
            f"task loss of the last {AVERAGED} steps is {np.mean(some.task_loss[-AVERAGED:]):.2f}.",
            bars(some.load, "smoothed load, %", 1 / len(some.load)),
        )
        for some in runs
    ]
    alphas = ", ".join(f"{some.config.aux_loss_coef:g}" for some in runs)
    return Sheet(
        f"Four runs with one seed, {STEPS} steps each, α = {alphas}. These are the smoothed loads. Which run had "
        f"α = {runs[asked].config.aux_loss_coef:g}?",
        options[asked],
        tuple(option for i, option in enumerate(options) if i != asked),
    )


def what_next(chance: random.Random, seed: int) -> Sheet | None:
    """What to do about a run, by its diagnosis."""
    some = run(seed, chance.choice((LOPSIDED, HEALTHY, EXCESSIVE)))
    if some.state not in TO_DO:
        return None
    facts = (
        f"The diagnosis of this run is “{some.state}”: the busiest expert takes {percent(max(some.load))}, router "
        f"entropy is {some.router_entropy:.2f}, specialization {some.specialization:.2f}."
    )
    why_not = {
        "Collapsed": "That is for a router that has collapsed.",
        "Over-balanced": "That is for a router that is even but undecided, under an α of 1 or more.",
        "Balanced": "That is for a router whose experts all work and which still tells tokens apart.",
    }
    noise = "Add Gaussian noise to the router"
    return sheet_of(
        f"A run with α = {some.config.aux_loss_coef:g} after {STEPS} steps. Its router entropy is "
        f"{some.router_entropy:.2f}, its specialization {some.specialization:.2f}. What would you do next?",
        (TO_DO[some.state], facts),
        (
            *((TO_DO[state], f"{why_not[state]} {facts}") for state in TO_DO if state != some.state),
            (noise, f"Noise alone does not prevent collapse on this task, and nothing else here calls for it. {facts}"),
        ),
        bars(some.load, "smoothed load, %", 1 / len(some.load)),
    )


def when_was_alpha_raised(chance: random.Random, seed: int) -> Sheet | None:
    """A rescue, to be seen in the largest load."""
    at = chance.choice(RAISED_AT)
    some = rescued_run(seed, at)
    busiest = np.array(some.busiest)
    collapsed_steps = np.flatnonzero(busiest > 0.5) + 1
    if (busiest[at - 10 : at] <= 0.5).any() or not at < collapsed_steps[-1] < at + SPACING:
        return None
    last = int(collapsed_steps[-1])
    fact = f"The last step with more than half of the tokens on one expert is {last}."
    why_not = {True: "That long before its end nothing happened yet.", False: "By then the rescue was over."}
    return sheet_of(
        f"The share of the busiest of eight experts in each of {RESCUE_STEPS} steps. The run began with α = 0, and "
        f"once α was raised to {RESCUE_ALPHA:g}. After which step?",
        (f"{at}", f"{fact} Then it falls for good: a rescue shows soon after α is raised."),
        ((f"{other}", f"{fact} {why_not[other < at]}") for other in RAISED_AT if other != at),
        line(100 * busiest, "share of the busiest expert, %", 100 / len(some.load)),
    )


def does_the_task_loss_tell(chance: random.Random, seed: int) -> Sheet | None:
    """Collapse is silent: two task losses that nobody can tell apart yet."""
    pair = [run(seed, LOPSIDED), run(seed, HEALTHY)]
    endings = [np.array(some.task_loss[-AVERAGED:]) for some in pair]
    difference, spread = abs(endings[0].mean() - endings[1].mean()), min(ending.std() for ending in endings)
    if [some.state == "Collapsed" for some in pair] != [True, False] or difference >= spread:
        return None
    chance.shuffle(pair)
    collapsed = [some.state == "Collapsed" for some in pair].index(True)
    hint = f"It is true that the {('first', 'second')[collapsed]} run is the collapsed one"
    facts = (
        f"Over the last {AVERAGED} steps the two means differ by {difference:.3f} nats, and single steps scatter by "
        f"{spread:.3f}."
    )
    return sheet_of(
        f"Task loss of two runs over {STEPS} steps. In one of them a single expert has taken over. Which one is it?",
        ("The curves do not tell", f"{facts} {hint}, but only its load shows it. Collapse is silent."),
        (
            ("The first run", f"{facts} That is no evidence; look at the load."),
            ("The second run", f"{facts} That is no evidence; look at the load."),
        ),
        line(pair[0].task_loss, "first run: task loss, nats"),
        line(pair[1].task_loss, "second run: task loss, nats"),
    )


def how_much_does_alpha_add(chance: random.Random, seed: int) -> Sheet | None:
    """What the weighted balance loss adds to the task loss of a real run."""
    some = run(seed, HEALTHY)
    alpha = some.config.aux_loss_coef
    task, balance = (
        round(float(np.mean(some_loss[-AVERAGED:])), 2) for some_loss in (some.task_loss, some.balance_loss)
    )
    return sheet_of(
        f"In a run with α = {alpha:g} the task loss is {task:.2f} and the balance loss {balance:.2f}. How much does "
        "the balancing term add, as a share of the task loss?",
        (
            percent(alpha * balance / task, 2),
            f"α times the balance loss over the task loss: {alpha:g} × {balance:.2f} / {task:.2f}. What counts for the "
            "router is the ratio of the gradients, though.",
        ),
        (
            (percent(alpha, 2), "That is α itself; it weighs the balance loss, which is smaller than the task loss."),
            (percent(balance / task, 2), "That leaves α out."),
            (percent(alpha * task / balance, 2), "That is turned round: divide by the task loss."),
        ),
    )


QUESTIONS = (
    Question("when-was-alpha-raised", "beginner", ("α", "collapse"), when_was_alpha_raised),
    Question("which-alpha", "practitioner", ("α", "load"), which_alpha),
    Question("what-next", "practitioner", ("α", "over-balanced", "collapse"), what_next),
    Question("does-the-task-loss-tell", "practitioner", ("task loss", "collapse"), does_the_task_loss_tell),
    Question("how-much-does-alpha-add", "practitioner", ("α", "load-balancing loss"), how_much_does_alpha_add),
)
