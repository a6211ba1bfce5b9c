"""Lessons 11 and 12: specialists on real text, and a router that is frozen when the data shift."""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import (
    dead,
    enough_steps,
    first_move,
    held_out_load,
    mean,
    number,
    percent,
    smoothed_load,
    token_share,
)

SPECIALIZED = 0.2


def _specialized(history: History, config: RunConfig) -> list[Criterion]:
    known, share = mean(history, "specialization"), token_share(history)
    return [
        enough_steps(history, 400),
        Criterion(f"Specialization is above {SPECIALIZED}.", known > SPECIALIZED, number(known)),
        Criterion("No expert has more than 25\u00a0% of the characters.", share <= 0.25, percent(share)),
        Criterion("No expert is dead.", dead(history) == 0, f"{number(dead(history), 0)} dead"),
    ]


def _after_specializing(history: History, config: RunConfig) -> Paragraphs:
    return (
        f"With α = {config.aux_loss_coef:g}, knowing the expert tells {percent(mean(history, 'specialization'))} of "
        f"what there is to know about the domain of a character. Shares lie between "
        f"{percent(smoothed_load(history).min())} and {percent(smoothed_load(history).max())}, and task loss is "
        f"{number(mean(history, 'task_loss'))}.",
        "Nobody told the router that there are domains. It found them because experts that see one kind of text "
        "predict it better.",
    )


TEXT = Lesson(
    slug="real-text",
    title="Real text and its specialists",
    goal="On real text, train for 400 steps with an α that keeps specialization above 0.2 while no expert is dead and "
    "none has more than 25\u00a0% of the characters.",
    tab="text",
    knobs=("aux_loss_coef",),
    start={"task": "text", "aux_loss_coef": 10.0, "batch_tokens": 512, "expert_hidden_size": 48},
    look_for=(
        "At α = 10 every passage is a mixture of all colours: no expert owns anything.",
        "With a small α, whole passages take on a few colours.",
        "Arithmetic and Unicode names: they are least like the rest.",
        "The view Specialization: dark cells are specialists.",
    ),
    story={
        "beginner": (
            "Now the data are real: English, Python code, names of characters, and sums. The model guesses the next "
            "character, and each character stands on the colour of the expert that is asked.",
            "Do experts come to own a subject? That depends on α.",
        ),
        "practitioner": (
            "Domains come in unequal parts, .4/.3/.2/.1, so an expert for arithmetic alone should have few tokens. α = "
            "10 takes that freedom away: the load is even, specialization is close to 0, and task loss is higher.",
            "At α = 0 specialists appear as well, but the load is skewed: one expert may have half of the characters "
            "while others die. None takes everything, as in the synthetic task.",
        ),
        "expert": (
            "Specialization is I(group; expert) / H(group), from smoothed joint frequencies of domain and first "
            "choice. It measures what is visible by domain only; experts may divide the work along other lines.",
            "In a large model, Mixtral (Jiang et al. 2024), the authors found experts sorted by syntax rather than by "
            "topic. Four domains as different as these, and characters as tokens, make topics easy to see here.",
        ),
    },
    hint="Reset, set α to 0.03 before the first step, and train to step 400.",
    criteria=_specialized,
    conclude=_after_specializing,
    intended_start={"aux_loss_coef": 0.03},
    intended_steps=400,
)

FREEZE, SHIFT, MEASURED = 400, 450, 50


def _shifted(history: History, config: RunConfig) -> list[Criterion]:
    freeze, shift, thaw, before, after = _turning_points(history)
    frozen_shift = shift is not None and thaw - shift.step >= MEASURED
    now = held_out_load(history)
    thawed = not config.frozen and frozen_shift and len(history) - thaw >= 200
    return [
        Criterion(
            "Train for 300 steps or more, then freeze.",
            freeze is not None and freeze.step >= 300,
            "not frozen yet" if freeze is None else f"frozen at step {freeze.step}",
        ),
        Criterion(
            "Frozen, with the topics shifted for 50 steps, the busiest expert's load in inference rises by a tenth.",
            frozen_shift and after >= 1.1 * before,
            f"{percent(before)} → {percent(after)}",
        ),
        Criterion(
            "Let it learn again for 200 steps, until that load is at most 25\u00a0%.",
            thawed and now <= 0.25,
            percent(now),
        ),
    ]


def _turning_points(history: History) -> tuple[Event | None, Event | None, int, float, float]:
    """When it was frozen, when the data shifted while it was, when it learned again (or how far it is), and the busiest
    expert's load in inference before the first and at the end of the second."""
    freeze = next((event for event in history.events if event.changes.get("frozen") is True), None)
    if freeze is None:
        return None, None, len(history), held_out_load(history), np.nan
    thaw_event = first_move(history, "frozen", freeze.step + 1)
    thaw = len(history) if thaw_event is None else thaw_event.step
    moves = [first_move(history, name, freeze.step) for name in ("topic_skew", "topic_shift")]
    shifts = [move for move in moves if move is not None and move.step < thaw]
    shift = min(shifts, key=lambda move: move.step, default=None)
    before = held_out_load(history, freeze.step)
    return freeze, shift, thaw, before, held_out_load(history, thaw) if shift else np.nan


def _after_the_shift(history: History, config: RunConfig) -> Paragraphs:
    _, _, _, before, after = _turning_points(history)
    return (
        f"The busiest expert's load in inference was {percent(before)}, and {percent(after)} when the topics had "
        f"shifted and nothing could learn. After learning again, with α = {config.aux_loss_coef:g}, it is "
        f"{percent(held_out_load(history))}.",
        "The router did nothing wrong while it was frozen: it sent the same topics to the same experts. There were "
        "just more of some topics. Balance belongs to a router together with its data.",
    )


SHIFTED = Lesson(
    slug="distribution-shift",
    title="After training: inference and shift",
    goal="Freeze a healthy router, see the busiest expert's load in inference rise by a tenth or more when the topics "
    "shift, then let it learn again until that load is at most 25\u00a0%.",
    tab="inference",
    knobs=("frozen", "topic_skew", "topic_shift", "aux_loss_coef"),
    start={"aux_loss_coef": 0.03},
    plan=(Event(FREEZE, {"frozen": True}), Event(SHIFT, {"topic_skew": 2.0, "topic_shift": 8})),
    look_for=(
        "From step 400 all weights stand still, and the load goes on as it was.",
        "At step 450 topics that were rare become common: the load in inference jumps.",
        "Turn Freeze off: is the α of before enough for the new data?",
    ),
    story={
        "beginner": (
            "After training, a model is used and learns no more. As long as people ask what they asked before, the "
            "experts share the work as before.",
            "Then the questions change. The router sends them where it has always sent such questions, and one expert "
            "may be swamped.",
        ),
        "practitioner": (
            "Inference tolerates imbalance: nobody starves, for nobody learns. What it costs is time, because the "
            "slowest device sets the pace, and dropped tokens where there is a cap.",
            "So measure the load on the traffic you really have, and again when it changes. After this shift one topic "
            "is the most of the data, and with the old α = 0.03 the router mostly gives that topic to one expert; it "
            "takes a larger α to make several share it.",
        ),
        "expert": (
            "f_i = Σ over groups g of π_g · P(i | g). Freezing fixes P(i | g); a shift changes π. An even f under one "
            "π says nothing of another, and the more specialized the router, the more f follows π.",
            "Whether to rebalance at all is a question of cost: an expert for a topic with π_g = 0.6 that gets 0.6 of "
            "the tokens is right for the task loss and wrong for the devices. "
            "ST-MoE (Zoph et al. 2022) gives evaluation more room than training: a capacity factor of 2 against 1.25.",
        ),
    },
    hint="Let the plan freeze and shift. At step 500 turn Freeze off and set α to 0.3, then train to step 800.",
    criteria=_shifted,
    conclude=_after_the_shift,
    intended=(Event(500, {"frozen": False, "aux_loss_coef": 0.3}),),
    intended_steps=800,
)
