"""How large α should be, and when to raise it."""

from __future__ import annotations

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import percent
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs, Reference
from moe_sim.teaching.course.measures import enough_steps, first_move, mean, number, ratio, token_share

JUDGED_AT = 600
MOST_RATIO, MOST_LOSS = 4.0, 1.06
LATE, LATE_JUDGED_AT, GAIN, ALONE = 400, 1000, 0.95, 30


def _choose_reference(history: History) -> Reference | None:
    return Reference(history.initial_config.seed, JUDGED_AT) if len(history) >= JUDGED_AT else None


def _choose_criteria(history: History, config: RunConfig, reference_loss: float) -> list[Criterion]:
    max_over_min, loss = ratio(history, JUDGED_AT), mean(history, "task_loss", JUDGED_AT)
    return [
        enough_steps(history, JUDGED_AT),
        Criterion(
            f"At step {JUDGED_AT}, max/min is below {MOST_RATIO:g}.", max_over_min < MOST_RATIO, number(max_over_min)
        ),
        Criterion(
            f"There, task loss is at most 6\u00a0% above that of a run with α = 0.03 ({number(reference_loss)}).",
            loss <= MOST_LOSS * reference_loss,
            number(loss),
        ),
    ]


def _choose_conclusion(history: History, config: RunConfig, reference_loss: float) -> Paragraphs:
    used = history.config_at(min(JUDGED_AT, len(history))).aux_loss_coef
    loss = mean(history, "task_loss", JUDGED_AT)
    return (
        f"With α = {used:g}, max/min at step {JUDGED_AT} is {number(ratio(history, JUDGED_AT))}. Task loss is "
        f"{number(loss)}, {percent(loss / reference_loss - 1)} more than with α = 0.03: the price of the even load.",
        f"Specialization is {history.last('specialization'):.2f} and router entropy "
        f"{mean(history, 'router_entropy'):.2f}. As α grows, router entropy approaches 1: the router no longer "
        "chooses.",
    )


CHOOSE = Lesson(
    slug="choosing-alpha",
    title="Choosing α",
    goal="Find an α for which, at step 600, max/min is below 4 and task loss is at most 6\u00a0% above that of a run "
    "with α = 0.03 and the same seed.",
    tab="router",
    knobs=("aux_loss_coef",),
    start={"aux_loss_coef": 10.0},
    look_for=(
        "At α = 10 the bars look perfectly even. Is that good?",
        "Task loss compared with the reference in the goal.",
        "Pulls on the router: how many times as hard as the task does α × the load-balancing loss pull?",
        "Specialization: when α is too large, the rows of the table become alike.",
    ),
    story={
        "beginner": (
            "More is not always better. With α = 10 every expert gets the same share, but the router follows no other "
            "goal, and the experts cannot specialize in anything.",
            "Somewhere between too little and too much lies a good α. Press Reset before each try, so that all start "
            "from the same point.",
        ),
        "practitioner": (
            "From α = 0.001 to 10 the task loss follows a U: high where the router collapses, low from 0.01 to 0.1, "
            "high again where uniformity drowns out the task. The ratio max/min only falls.",
            "So there is a trade-off. Perfect balance is not the goal: an expert for a rare topic should have few "
            "tokens. α is too large when the load-balancing loss still falls but the task loss has stopped.",
        ),
        "expert": (
            "L = L_task + α · E · Σ fᵢ Pᵢ. What counts is α‖∇L_balance‖ against ‖∇L_task‖ on W_r and the cosine "
            "between the two, not the ratio of the losses. Switch (Fedus et al. 2021) and OLMoE use α = 0.01; "
            "transformers defaults to 0.001 for Mixtral, Qwen and gpt-oss.",
            "DeepSeek-V3 (2024) balances mainly by a selection bias, beside a tiny loss per sequence, and gives this "
            "trade-off as the reason: the gradient of a load-balancing loss interferes with that of the task.",
        ),
    },
    hint="Reset, set α to 0.1 before the first step, and train to step 600. Then compare 0.03 and 0.3.",
    criteria=_choose_criteria,
    conclude=_choose_conclusion,
    reference=_choose_reference,
    intended_start={"aux_loss_coef": 0.1},
    intended_steps=JUDGED_AT,
)


def _too_late_reference(history: History) -> Reference | None:
    done = len(history) >= LATE_JUDGED_AT
    return Reference(history.initial_config.seed, LATE_JUDGED_AT, 0.1, LATE) if done else None


def _too_late_criteria(history: History, config: RunConfig, late_loss: float) -> list[Criterion]:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    left_alone = history.initial_config.aux_loss_coef == 0 and at >= ALONE
    share, done = token_share(history, at), len(history) >= LATE_JUDGED_AT
    loss = mean(history, "task_loss", LATE_JUDGED_AT)
    return [
        Criterion(
            f"At α = 0 for at least {ALONE} steps, one expert takes more than half of the tokens.",
            left_alone and share > 0.5,
            f"{percent(share)} at step {at}",
        ),
        Criterion(
            f"Task loss at step {LATE_JUDGED_AT} is at least 5\u00a0% below that of a rescue with α = 0.1 at step "
            f"{LATE} ({number(late_loss)}).",
            left_alone and loss <= GAIN * late_loss,
            number(loss) if done else f"{len(history)} steps",
        ),
    ]


def _too_late_conclusion(history: History, config: RunConfig, late_loss: float) -> Paragraphs:
    rescue = first_move(history, "aux_loss_coef")
    loss = mean(history, "task_loss", LATE_JUDGED_AT)
    return (
        f"You raised α at step {0 if rescue is None else rescue.step:,}. At step {LATE_JUDGED_AT:,} task loss is "
        f"{number(loss)}, {percent(1 - loss / late_loss)} below the {number(late_loss)} of the same run rescued at "
        f"step {LATE}.",
        f"Your max/min at that step is {number(ratio(history, LATE_JUDGED_AT))}, and a late rescue evens out the load "
        "just as well. The load does not remember the collapse, but the experts do: steps without tokens are lost for "
        "them.",
    )


TOO_LATE = Lesson(
    slug="too-late",
    title="Too late",
    goal="Let the router collapse for at least 30 steps, then rescue it early enough that task loss at step 1,000 is "
    "at least 5\u00a0% below that of a rescue at step 400.",
    tab="feedback",
    knobs=("aux_loss_coef",),
    plan=(Event(LATE, {"aux_loss_coef": 0.1}),),
    look_for=(
        "First watch without doing anything: α rises at step 400, and the load evens out as after your own rescue.",
        "Task loss falls from there, but it starts far behind.",
        "Distance covered: the weights of dead experts start to move only at the rescue.",
        "Reset and change α by hand. That cancels the planned change.",
    ),
    story={
        "beginner": (
            "A rescue brings the experts back at any time. But what they could have learned in the meantime is "
            "missing.",
            "So do not wait for the loss curve to look bad. Watch the load and act early.",
        ),
        "practitioner": (
            "A late rescue balances as well as an early one and still ends with a higher task loss for the same number "
            "of steps. Seven experts start from scratch while one has to unlearn handling every topic.",
            "In a long training run, set an alert on the smoothed load, not on the loss: the load shows a collapse "
            "within tens of steps.",
        ),
        "expert": (
            "The displacement ‖w − w₀‖ of an expert without tokens is constant: its gradient is exactly 0, and so is "
            "its update by Adam once the moments have decayed.",
            "This path dependence is why balancing is on from the first step in practice: Switch (Fedus et al. 2021) "
            "and GShard (Lepikhin et al. 2020) keep their coefficient constant throughout.",
        ),
    },
    hint="Reset, train to about step 100, set α to 0.1, and train on to step 1,000.",
    criteria=_too_late_criteria,
    conclude=_too_late_conclusion,
    reference=_too_late_reference,
    intended=(Event(100, {"aux_loss_coef": 0.1}),),
    intended_steps=LATE_JUDGED_AT,
)
