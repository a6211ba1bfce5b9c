"""Questions about the effect of α in real runs."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np

from moe_sim.diagnosis.remedies import RESCUE_ALPHA
from moe_sim.teaching.quiz.question import Option, Question, Sheet
from moe_sim.teaching.quiz.runs import (
    AVERAGED,
    EXCESSIVE,
    HEALTHY,
    LOPSIDED,
    RESCUE_STEPS,
    STEPS,
    WEAK,
    rescued_run,
    run,
)
from moe_sim.teaching.quiz.wording import bars, line, listed, percent, sheet_of

RAISED_AT = (50, 90, 130, 170)
SPACING = 40
"""Steps between two of `RAISED_AT`. A rescue shows well within this time."""
APART = 1.15
"""The smallest factor between the largest loads of runs to be told apart."""
TO_DO = {
    "Collapsed": "Raise α to between 0.03 and 0.1",
    "Over-balanced": "Lower α to between 0.01 and 0.1",
    "Balanced": "Leave α as it is",
}
"""Advice by diagnosis."""


def which_alpha(rng: random.Random, seed: int) -> Sheet | None:
    """Four runs that differ only in α; a smaller α leaves a larger load."""
    runs = [run(seed, changes) for changes in (LOPSIDED, WEAK, HEALTHY, EXCESSIVE)]
    largest = [max(trained.load) for trained in runs]
    if any(more < APART * less for more, less in pairwise(largest)):
        return None
    asked = rng.randrange(len(runs))
    options = [
        Option(
            f"{listed(100 * np.array(trained.load), 1)}\u00a0%",
            f"This is α = {trained.config.aux_loss_coef:g}. The busiest expert takes {percent(max(trained.load))}; the "
            f"mean task loss of the last {AVERAGED} steps is {np.mean(trained.task_loss[-AVERAGED:]):.2f}.",
            bars(trained.load, "smoothed load, %", 1 / len(trained.load)),
        )
        for trained in runs
    ]
    alphas = ", ".join(f"{trained.config.aux_loss_coef:g}" for trained in runs)
    return Sheet(
        f"Four runs with the same seed, {STEPS} steps each, α = {alphas}. These are the smoothed loads. Which run had "
        f"α = {runs[asked].config.aux_loss_coef:g}?",
        options[asked],
        tuple(option for i, option in enumerate(options) if i != asked),
    )


def what_next(rng: random.Random, seed: int) -> Sheet | None:
    """The next action for a run, by its diagnosis."""
    trained = run(seed, rng.choice((LOPSIDED, HEALTHY, EXCESSIVE)))
    if trained.state not in TO_DO:
        return None
    facts = (
        f"The diagnosis of this run is “{trained.state}”: the busiest expert takes {percent(max(trained.load))}, "
        f"router entropy is {trained.router_entropy:.2f}, specialization {trained.specialization:.2f}."
    )
    why_not = {
        "Collapsed": "That is for a collapsed router.",
        "Over-balanced": "That is for an even load from a router that no longer chooses, with an α of 1 or more.",
        "Balanced": "That is for a router that uses all experts and still tells tokens apart.",
    }
    noise = "Add Gaussian noise to the router"
    return sheet_of(
        f"A run with α = {trained.config.aux_loss_coef:g} after {STEPS} steps. Its router entropy is "
        f"{trained.router_entropy:.2f}, its specialization {trained.specialization:.2f}. What would you do next?",
        (TO_DO[trained.state], facts),
        (
            *((TO_DO[state], f"{why_not[state]} {facts}") for state in TO_DO if state != trained.state),
            (noise, f"Noise alone does not prevent collapse on this task, and nothing else here calls for it. {facts}"),
        ),
        bars(trained.load, "smoothed load, %", 1 / len(trained.load)),
    )


def when_was_alpha_raised(rng: random.Random, seed: int) -> Sheet | None:
    """A rescue, visible in the largest load."""
    at = rng.choice(RAISED_AT)
    trained = rescued_run(seed, at)
    busiest = np.array(trained.busiest)
    collapsed_steps = np.flatnonzero(busiest > 0.5) + 1
    if (busiest[at - 10 : at] <= 0.5).any() or not at < collapsed_steps[-1] < at + SPACING:
        return None
    last = int(collapsed_steps[-1])
    fact = f"The last step in which one expert has more than half of the tokens is {last}."
    why_not = {
        True: "That is too early: for a long time after that step nothing changes.",
        False: "By then the load had already fallen.",
    }
    return sheet_of(
        f"The chart shows the share of the busiest of eight experts over {RESCUE_STEPS} steps. The run started with α "
        f"= 0; then α was raised to {RESCUE_ALPHA:g}. After which step?",
        (f"{at}", f"{fact} Then the share stays low: a rescue shows soon after α is raised."),
        ((f"{other}", f"{fact} {why_not[other < at]}") for other in RAISED_AT if other != at),
        line(100 * busiest, "share of the busiest expert, %", 100 / len(trained.load)),
    )


def does_the_task_loss_tell(rng: random.Random, seed: int) -> Sheet | None:
    """Collapse is silent: two task losses that cannot be told apart yet."""
    pair = [run(seed, LOPSIDED), run(seed, HEALTHY)]
    endings = [np.array(trained.task_loss[-AVERAGED:]) for trained in pair]
    difference, spread = abs(endings[0].mean() - endings[1].mean()), min(ending.std() for ending in endings)
    if [trained.state == "Collapsed" for trained in pair] != [True, False] or difference >= spread:
        return None
    rng.shuffle(pair)
    collapsed = [trained.state == "Collapsed" for trained in pair].index(True)
    hint = f"The {('first', 'second')[collapsed]} run is the collapsed one"
    facts = (
        f"Over the last {AVERAGED} steps the means of the two runs differ by {difference:.3f} nats, and single steps "
        f"scatter by {spread:.3f}."
    )
    return sheet_of(
        f"The charts show the task loss of two runs over {STEPS} steps. In one of them a single expert has taken over. "
        "Which run is it?",
        ("The curves do not tell", f"{facts} {hint}, but only its load shows it. Collapse is silent."),
        (
            ("The first run", f"{facts} That is no evidence; look at the load."),
            ("The second run", f"{facts} That is no evidence; look at the load."),
        ),
        line(pair[0].task_loss, "first run: task loss, nats"),
        line(pair[1].task_loss, "second run: task loss, nats"),
    )


def how_much_does_alpha_add(rng: random.Random, seed: int) -> Sheet | None:
    """The weighted load-balancing loss as a share of the task loss of a real run."""
    trained = run(seed, HEALTHY)
    alpha = trained.config.aux_loss_coef
    task, balance = (
        round(float(np.mean(values[-AVERAGED:])), 2) for values in (trained.task_loss, trained.balance_loss)
    )
    return sheet_of(
        f"In a run with α = {alpha:g} the task loss is {task:.2f} and the load-balancing loss {balance:.2f}. How much "
        "does the weighted load-balancing loss add, as a share of the task loss?",
        (
            percent(alpha * balance / task, 2),
            f"α times the load-balancing loss over the task loss: {alpha:g} × {balance:.2f} / {task:.2f}. For the "
            "router, though, the ratio of the gradients is what counts.",
        ),
        (
            (
                percent(alpha, 2),
                "That is α itself. It multiplies the load-balancing loss, which is smaller than the task loss.",
            ),
            (percent(balance / task, 2), "That leaves out α."),
            (percent(alpha * task / balance, 2), "That is inverted: divide by the task loss."),
        ),
    )


QUESTIONS = (
    Question("when-was-alpha-raised", "beginner", ("α", "collapse"), when_was_alpha_raised),
    Question("which-alpha", "practitioner", ("α", "load"), which_alpha),
    Question("what-next", "practitioner", ("α", "over-balanced", "collapse"), what_next),
    Question("does-the-task-loss-tell", "practitioner", ("task loss", "collapse"), does_the_task_loss_tell),
    Question("how-much-does-alpha-add", "practitioner", ("α", "load-balancing loss"), how_much_does_alpha_add),
)
