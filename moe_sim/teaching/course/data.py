"""Specialists on real text, and a frozen router under a data shift."""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import percent
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import (
    dead,
    enough_steps,
    first_move,
    held_out_load,
    mean,
    number,
    smoothed_load,
    token_share,
)

SPECIALIZED = 0.2


def _text_criteria(history: History, config: RunConfig) -> list[Criterion]:
    specialization, share = mean(history, "specialization"), token_share(history)
    return [
        enough_steps(history, 400),
        Criterion(f"Specialization is above {SPECIALIZED}.", specialization > SPECIALIZED, number(specialization)),
        Criterion("No expert has more than 25\u00a0% of the characters.", share <= 0.25, percent(share)),
        Criterion("No expert is dead.", dead(history) == 0, f"{number(dead(history), 0)} dead"),
    ]


def _text_conclusion(history: History, config: RunConfig) -> Paragraphs:
    return (
        f"With α = {config.aux_loss_coef:g}, the expert carries {percent(mean(history, 'specialization'))} of the "
        f"information about a character's domain. Shares range from {percent(smoothed_load(history).min())} to "
        f"{percent(smoothed_load(history).max())}, and task loss is {number(mean(history, 'task_loss'))}.",
        "Nothing told the router about domains. It found them because experts that see one kind of text predict it "
        "better.",
    )


TEXT = Lesson(
    slug="real-text",
    title="Specialists on real text",
    goal="On real text, train for 400 steps with an α that keeps specialization above 0.2 while no expert is dead and "
    "none has more than 25\u00a0% of the characters.",
    tab="text",
    knobs=("aux_loss_coef",),
    start={"task": "text", "aux_loss_coef": 10.0, "batch_tokens": 512, "expert_hidden_size": 48},
    look_for=(
        "At α = 10 every passage mixes all colours: no expert owns anything.",
        "With a small α, whole passages show only a few colours.",
        "Arithmetic and Unicode names, which differ most from the rest.",
        "The view Specialization, where dark cells are specialists.",
    ),
    story={
        "beginner": (
            "Now the data are real: English, Python code, names of characters, and sums. The model predicts the next "
            "character. Each character's background is the colour of the expert that handles it.",
            "Will each expert own a subject? That depends on α.",
        ),
        "practitioner": (
            "Domains have unequal shares, .4/.3/.2/.1, so an expert for arithmetic alone should have few tokens. α = "
            "10 does not allow that: the load is even, specialization is close to 0, and task loss is higher.",
            "At α = 0 specialists appear too, but the load is skewed: one expert may have two thirds of the characters "
            "while others die. Unlike in the Topics task, none takes everything.",
        ),
        "expert": (
            "Specialization is I(group; expert) / H(group), from smoothed joint frequencies of domain and first "
            "choice. It sees only differences between domains; experts may divide the work along other lines.",
            "In Mixtral, experts were found to follow syntax rather than topic (Jiang et al. 2024); many of OLMoE's "
            "belong to a domain (Muennighoff et al. 2024). Here domains are easy to see, because the four are so "
            "different and tokens are characters.",
        ),
    },
    hint="Reset, set α to 0.03 before the first step, and train to step 400.",
    criteria=_text_criteria,
    conclude=_text_conclusion,
    intended_start={"aux_loss_coef": 0.03},
    intended_steps=400,
)

FREEZE, SHIFT, MEASURED = 400, 450, 50


def _shift_criteria(history: History, config: RunConfig) -> list[Criterion]:
    freeze, shift, unfrozen_at, before, after = _turning_points(history)
    shifted_while_frozen = shift is not None and unfrozen_at - shift.step >= MEASURED
    now = held_out_load(history)
    learned_again = not config.frozen and shifted_while_frozen and len(history) - unfrozen_at >= 200
    return [
        Criterion(
            "Train for 300 steps or more, then freeze.",
            freeze is not None and freeze.step >= 300,
            "not frozen yet" if freeze is None else f"frozen at step {freeze.step:,}",
        ),
        Criterion(
            "While frozen and with the topics shifted for 50 steps, the busiest expert's load in inference rises by a "
            "tenth.",
            shifted_while_frozen and after >= 1.1 * before,
            f"{percent(before)} → {percent(after)}",
        ),
        Criterion(
            "Unfrozen for 200 steps, that load falls to at most 25\u00a0%.",
            learned_again and now <= 0.25,
            percent(now),
        ),
    ]


def _turning_points(history: History) -> tuple[Event | None, Event | None, int, float, float]:
    """The freeze, the first data shift while frozen, the step at which learning resumed (or the newest step), and the
    busiest expert's load in inference before the freeze and at the end of the frozen phase."""
    freeze = next((event for event in history.events if event.changes.get("frozen") is True), None)
    if freeze is None:
        return None, None, len(history), held_out_load(history), np.nan
    unfreeze = first_move(history, "frozen", freeze.step + 1)
    unfrozen_at = len(history) if unfreeze is None else unfreeze.step
    changes = [first_move(history, name, freeze.step) for name in ("topic_skew", "topic_shift")]
    shifts = [change for change in changes if change is not None and change.step < unfrozen_at]
    shift = min(shifts, key=lambda change: change.step, default=None)
    before = held_out_load(history, freeze.step)
    return freeze, shift, unfrozen_at, before, held_out_load(history, unfrozen_at) if shift else np.nan


def _shift_conclusion(history: History, config: RunConfig) -> Paragraphs:
    _, _, _, before, after = _turning_points(history)
    return (
        f"The busiest expert's load in inference was {percent(before)}, and {percent(after)} once the topics had "
        f"shifted while it was frozen. After learning again, with α = {config.aux_loss_coef:g}, it is "
        f"{percent(held_out_load(history))}.",
        "The router did nothing wrong while it was frozen: it sent the same topics to the same experts. Some topics "
        "just became more frequent. Balance is a property of a router together with its data.",
    )


SHIFTED = Lesson(
    slug="distribution-shift",
    title="After training: inference and shift",
    goal="Freeze a healthy router and see the busiest expert's load in inference rise by a tenth or more when the "
    "topics shift. Then let it learn again until that load is at most 25\u00a0%.",
    tab="inference",
    knobs=("frozen", "topic_skew", "topic_shift", "aux_loss_coef"),
    start={"aux_loss_coef": 0.03},
    plan=(Event(FREEZE, {"frozen": True}), Event(SHIFT, {"topic_skew": 2.0, "topic_shift": 8})),
    look_for=(
        "From step 400 all weights stay fixed, and the load stays as it was.",
        "At step 450 topics that were rare become common: the load in inference jumps.",
        "Turn Freeze off: is the old α enough for the new data?",
    ),
    story={
        "beginner": (
            "After training, a model is used and no longer learns. As long as people ask the same kinds of questions, "
            "the experts share the work as before.",
            "Then the questions change. The router sends them where it has always sent such questions, and one expert "
            "may be overloaded.",
        ),
        "practitioner": (
            "Inference tolerates imbalance: no expert falls behind, because none learns. The cost is time, because the "
            "slowest device sets the pace, and dropped tokens where there is a capacity limit.",
            "So measure the load on real traffic, and again when the traffic changes. After this shift one topic makes "
            "up most of the data. With the old α = 0.03 the router mostly gives that topic to one expert; it takes a "
            "larger α to make several share it.",
        ),
        "expert": (
            "f_i = Σ over groups g of π_g · P(i | g). Freezing fixes P(i | g); a shift changes π. An even f under one "
            "π says nothing about another, and the more specialized the router, the more f follows π.",
            "Whether to rebalance at all is a question of cost: an expert for a topic with π_g = 0.6 that gets 0.6 of "
            "the tokens is right for the task loss and wrong for the devices. ST-MoE (Zoph et al. 2022) uses a larger "
            "capacity factor in evaluation than in training: 2 against 1.25.",
        ),
    },
    hint="Let the planned changes freeze the run and shift the topics. At step 500 turn Freeze off and set α to 0.3, "
    "then train to step 800.",
    criteria=_shift_criteria,
    conclude=_shift_conclusion,
    intended=(Event(500, {"frozen": False, "aux_loss_coef": 0.3}),),
    intended_steps=800,
)
