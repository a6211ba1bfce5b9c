"""Lessons 4 and 5: how much α, and when."""

from __future__ import annotations

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import enough_steps, first_move, mean, number, percent, ratio, token_share
from moe_sim.teaching.course.playing import reference

JUDGED_AT = 600
MOST_RATIO, MOST_LOSS = 4.0, 1.06
LATE, LATE_JUDGED_AT, GAIN, ALONE = 400, 1000, 0.95, 30


def _chosen(history: History, config: RunConfig) -> list[Criterion]:
    done = len(history) >= JUDGED_AT
    shares, loss = ratio(history, JUDGED_AT), mean(history, "task_loss", JUDGED_AT)
    steady = reference(history.initial_config.seed, JUDGED_AT) if done else float("nan")
    return [
        enough_steps(history, JUDGED_AT),
        Criterion(f"At step {JUDGED_AT}, max/min is below {MOST_RATIO:g}.", shares < MOST_RATIO, number(shares)),
        Criterion(
            f"There, task loss is at most 6\u00a0% above that of a run with α = 0.03 ({number(steady)}).",
            loss <= MOST_LOSS * steady,
            number(loss),
        ),
    ]


def _after_choosing(history: History, config: RunConfig) -> Paragraphs:
    used = history.config_at(min(JUDGED_AT, len(history))).aux_loss_coef
    loss, steady = mean(history, "task_loss", JUDGED_AT), reference(history.initial_config.seed, JUDGED_AT)
    return (
        f"With α = {used:g} max/min is {number(ratio(history, JUDGED_AT))} at step {JUDGED_AT} and task loss "
        f"{number(loss)}, {percent(loss / steady - 1)} more than with α = 0.03: that is the price of the even load "
        f"here.",
        f"Specialization is {history.last('specialization'):.2f} and router entropy "
        f"{mean(history, 'router_entropy'):.2f}. As α grows the second goes to 1: the router no longer decides.",
    )


CHOOSE = Lesson(
    slug="choosing-alpha",
    title="Choosing α",
    goal="Find an α with which, at step 600, max/min is below 4 and task loss at most 6\u00a0% above that of a run "
    "with α = 0.03 and the same seed.",
    tab="router",
    knobs=("aux_loss_coef",),
    start={"aux_loss_coef": 10.0},
    look_for=(
        "At α = 10 the bars are even to the eye. Is that good?",
        "Task loss against the reference that the goal names.",
        "Pulls on the router: how many times as hard as the task does α × the balancing loss pull?",
        "Specialization: with too large an α the rows of the table grow alike.",
    ),
    story={
        "beginner": (
            "More is not always better. With α = 10 every expert gets the same, but the router thinks of nothing else, "
            "and the experts cannot become experts for anything.",
            "Somewhere between too little and too much lies a good α. Press Reset before each try, so that all have "
            "the same start.",
        ),
        "practitioner": (
            "From 0.001 to 10 the task loss draws a U: high where the router collapses, low from 0.01 to 0.1, high "
            "again where uniformity drowns the task. The ratio max/min only falls.",
            "So you trade. Perfect balance is not the goal: an expert for a rare topic should have few tokens. The "
            "sign of too much is a balance loss that still falls while the task loss has stopped.",
        ),
        "expert": (
            "L = L_task + α · E · Σ fᵢ Pᵢ. What counts is α‖∇L_balance‖ against ‖∇L_task‖ on W_r and the cosine "
            "between the two, not the ratio of the losses; α = 0.01 is usual in Switch (Fedus et al. 2021) and in "
            "Mixtral-style models.",
            "DeepSeek-V3 (2024) gives the trade-off as its reason to balance by a selection bias instead: the "
            "gradient of an auxiliary loss interferes with that of the task.",
        ),
    },
    hint="Reset, set α to 0.1 before the first step, and train to step 600. Then compare 0.03 and 0.3.",
    criteria=_chosen,
    conclude=_after_choosing,
    intended_start={"aux_loss_coef": 0.1},
    intended_steps=JUDGED_AT,
)


def _in_time(history: History, config: RunConfig) -> list[Criterion]:
    move = first_move(history, "aux_loss_coef")
    at = len(history) if move is None else move.step
    alone = history.initial_config.aux_loss_coef == 0 and at >= ALONE
    share, done = token_share(history, at), len(history) >= LATE_JUDGED_AT
    loss = mean(history, "task_loss", LATE_JUDGED_AT)
    late = reference(history.initial_config.seed, LATE_JUDGED_AT, 0.1, LATE) if done else float("nan")
    return [
        Criterion(
            f"At α = 0 for at least {ALONE} steps, one expert takes more than half of the tokens.",
            alone and share > 0.5,
            f"{percent(share)} at step {at}",
        ),
        Criterion(
            f"Task loss at step {LATE_JUDGED_AT} is at least 5\u00a0% below that of a rescue with α = 0.1 at step "
            f"{LATE} ({number(late)}).",
            alone and loss <= GAIN * late,
            number(loss) if done else f"{len(history)} steps",
        ),
    ]


def _after_timing(history: History, config: RunConfig) -> Paragraphs:
    move = first_move(history, "aux_loss_coef")
    late = reference(history.initial_config.seed, LATE_JUDGED_AT, 0.1, LATE)
    loss = mean(history, "task_loss", LATE_JUDGED_AT)
    return (
        f"α came at step {0 if move is None else move.step}, and at step {LATE_JUDGED_AT} task loss is {number(loss)}: "
        f"{percent(1 - loss / late)} below the {number(late)} of the same run rescued at step {LATE}.",
        f"Your max/min is {number(ratio(history, LATE_JUDGED_AT))} there, and a late rescue evens the load out as "
        f"well. The load does not remember the collapse, the experts do: steps in which they saw no token are lost to "
        f"them.",
    )


TOO_LATE = Lesson(
    slug="too-late",
    title="Too late",
    goal="Let it collapse for at least 30 steps, then rescue it early enough for a task loss at step 1000 that is "
    "5\u00a0% below that of a rescue at step 400.",
    tab="feedback",
    knobs=("aux_loss_coef",),
    plan=(Event(LATE, {"aux_loss_coef": 0.1}),),
    look_for=(
        "Watch once what happens by itself: α rises at step 400, and the load evens out as it did in the lesson "
        "before.",
        "Then the task loss: it goes down from there, but it comes from far behind.",
        "Distance covered: the weights of experts that were dead set out only at the rescue.",
        "Reset and move α by hand; the planned move is then off.",
    ),
    story={
        "beginner": (
            "A rescue brings the experts back at any time. But what they would have learned in the meantime they have "
            "not learned.",
            "So do not wait for the loss curve to look bad. Watch the load and act early.",
        ),
        "practitioner": (
            "A late rescue balances as well as an early one and still ends with a higher task loss for the same number "
            "of steps. Seven experts start from scratch while one has to unlearn being everybody's expert.",
            "In a long training run, put an alarm on the smoothed load, not on the loss: collapse shows there within "
            "tens of steps.",
        ),
        "expert": (
            "The displacement ‖w − w₀‖ of an expert without tokens is constant: its gradient is exactly 0, and so is "
            "its update by Adam once the moments have decayed.",
            "Path dependence of this kind is why balancing is switched on from the first step in practice: Switch "
            "(Fedus et al. 2021) and GShard (Lepikhin et al. 2020) keep their coefficient constant throughout.",
        ),
    },
    hint="Reset, train to about step 60, move α to 0.1, and let it go on to step 1000.",
    criteria=_in_time,
    conclude=_after_timing,
    intended=(Event(60, {"aux_loss_coef": 0.1}),),
    intended_steps=LATE_JUDGED_AT,
)
