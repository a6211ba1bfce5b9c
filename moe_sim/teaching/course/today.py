"""What people train with today: losses per sequence, shared experts, sigmoid scores."""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import percent
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs, Reference
from moe_sim.teaching.course.measures import (
    dead,
    enough_steps,
    first_move,
    mean,
    number,
    steps_since,
    token_share,
)

SCOPE_JUDGED_AT = 600


def _scope_criteria(history: History, config: RunConfig) -> list[Criterion]:
    specialization, share = mean(history, "specialization"), token_share(history)
    return [
        enough_steps(history, SCOPE_JUDGED_AT),
        Criterion("Specialization is 0.3 or more.", specialization >= 0.3, number(specialization)),
        Criterion("No expert has more than 25\u00a0% of the tokens.", share <= 0.25, percent(share)),
    ]


def _scope_conclusion(history: History, config: RunConfig) -> Paragraphs:
    begun, now = mean(history, "specialization", min(200, len(history))), mean(history, "specialization")
    return (
        f"Specialization at step 200: {number(begun)}; now: {number(now)}. α was {config.aux_loss_coef:g} all the "
        f"time, and no expert has more than {percent(token_share(history))} of the tokens.",
        "Counted over the batch, an expert may take a whole sequence as long as others take the next one. Counted over "
        "each sequence, every topic has to visit every expert.",
    )


SCOPE = Lesson(
    slug="balance-scope",
    title="Balanced over what?",
    goal="With α = 0.1 all the time, reach a specialization of 0.3 by step 600, with no expert above 25\u00a0% of the "
    "tokens.",
    tab="specialization",
    knobs=("balance_scope",),
    start={"aux_loss_coef": 0.1, "sequence_tokens": 16, "balance_scope": "sequence"},
    look_for=(
        "Expert utilization: the load is even from the start. Nothing seems wrong.",
        "Specialization: with a loss per sequence it stays near 0.",
        "Routing map: within a topic, all colours are mixed.",
        "After the scope has changed: the load stays even, and the map sorts itself.",
    ),
    story={
        "beginner": (
            "Sixteen tokens in a row now have one topic, as the words of one text have. The balancing loss looks at "
            "each such sequence by itself and wants all experts busy in it.",
            "So every topic is spread over every expert, and no expert can become good at one. The load is perfect; "
            "what the experts are for is lost.",
        ),
        "practitioner": (
            "f and P can be counted over a sequence, a micro-batch, or the whole batch. The formula is the same, and "
            "so is its best value, 1. What it forbids is not.",
            "With gradient accumulation or data parallelism, a loss that is computed on each device is a loss per "
            "micro-batch, usually of few documents. To count over the global batch, share f between devices.",
        ),
        "expert": (
            "Qiu et al. (2025), “Demons in the Detail”: a loss per micro-batch forces each domain over all experts; "
            "with f over the global batch, experts specialize and the model improves.",
            "DeepSeek-V3 (2024) keeps a loss per sequence, but with α = 0.0001, beside the bias that does the work. "
            "Here, at α = 0.1 and step 600, specialization is 0.03 per sequence, 0.35 per micro-batch and 0.61 over "
            "the batch, means of five seeds.",
        ),
    },
    hint="At step 200, set the balance scope, in the group Balancing, to batch. Train to step 600.",
    criteria=_scope_criteria,
    conclude=_scope_conclusion,
    intended=(Event(200, {"balance_scope": "batch"}),),
    intended_steps=SCOPE_JUDGED_AT,
)

ALONE_UNTIL, RESCUED_FOR, RESCUED_AT = 200, 200, 450


def _shared_reference(history: History) -> Reference | None:
    """The same run without a shared expert, up to the step at which α has done its work."""
    move = first_move(history, "aux_loss_coef")
    if move is None or len(history) < move.step + RESCUED_FOR:
        return None
    return Reference(
        history.initial_config.seed, move.step + RESCUED_FOR, move.changes["aux_loss_coef"], raised_at=move.step
    )


def _shared_criteria(history: History, config: RunConfig, _: float) -> list[Criterion]:
    move = first_move(history, "aux_loss_coef")
    until = len(history) if move is None else move.step
    alone = token_share(history, until) if until else np.nan
    since, share, num_dead = steps_since(history, "aux_loss_coef"), token_share(history), dead(history)
    return [
        Criterion(
            f"α stays 0 for {ALONE_UNTIL} steps, and one expert takes more than half of the tokens.",
            until >= ALONE_UNTIL and alone > 0.5,
            f"{until:,} steps, then {percent(alone)}",
        ),
        Criterion(
            f"α is above 0 for {RESCUED_FOR} steps.",
            move is not None and since >= RESCUED_FOR,
            f"{since if move else 0:,} steps",
        ),
        Criterion("No expert has more than 25\u00a0% of the tokens.", share <= 0.25, percent(share)),
        Criterion("At most one expert is dead.", num_dead <= 1, f"{number(num_dead, 0)} dead"),
    ]


def _shared_conclusion(history: History, config: RunConfig, without: float) -> Paragraphs:
    move = first_move(history, "aux_loss_coef")
    judged_at = min(len(history), 0 if move is None else move.step + RESCUED_FOR)
    return (
        f"The shared expert did not keep the router from collapsing; α did. At step {judged_at:,} the task loss is "
        f"{number(mean(history, 'task_loss', judged_at))}; without a shared expert, it is {number(without)}.",
        "What all tokens have in common has one place to go. The router still follows the loop that makes one expert "
        "the best choice for everybody, because nothing in a shared expert tells it otherwise.",
    )


SHARED = Lesson(
    slug="shared-experts",
    title="A shared expert",
    goal="See that a shared expert does not prevent the collapse: leave α at 0 for 200 steps. Then bring the experts "
    "back, with at most one dead and none above 25\u00a0% of the tokens.",
    tab="feedback",
    knobs=("aux_loss_coef",),
    start={"shared_experts": 1},
    look_for=(
        "Expert utilization shows the eight experts that the router chooses; the shared one is not among them.",
        "Imbalance: it rises about as early as without a shared expert.",
        "Task loss: lower than without, because every token now passes two experts.",
        "After α was raised: the routed experts come back.",
    ),
    story={
        "beginner": (
            "Besides the experts that the router chooses, one more works on every token. Nobody has to choose it.",
            "It can learn what all tokens need. Does that keep the others from starving? Guess, then look.",
        ),
        "practitioner": (
            "A shared expert takes what all tokens have in common, so that routed experts need not each learn it. It "
            "costs the arithmetic of one more choice per token.",
            "It balances nothing. The router's gradient and the direction that all tokens share are still there.",
        ),
        "expert": (
            "Dai et al. (2024), DeepSeekMoE: y = Σ_shared E_j(x) + Σ_chosen g_i E_i(x). DeepSeek-V3 has one shared and "
            "256 routed experts.",
            "Measured here at α = 0, six seeds: at step 200 the busiest expert has 63 to 100\u00a0% of the tokens.",
        ),
    },
    hint="Train 200 steps without touching anything. Then set α to 0.1 and train 250 more.",
    criteria=_shared_criteria,
    conclude=_shared_conclusion,
    reference=_shared_reference,
    intended=(Event(ALONE_UNTIL, {"aux_loss_coef": 0.1}),),
    intended_steps=RESCUED_AT,
)

SIGMOID_JUDGED_AT = 450


def _sigmoid_criteria(history: History, config: RunConfig) -> list[Criterion]:
    share, num_dead, active = token_share(history), dead(history), steps_since(history, "balancing", "bias_rate")
    return [
        enough_steps(history, SIGMOID_JUDGED_AT),
        Criterion(
            "A selection bias is active for 200 steps, with α = 0.",
            config.balancing == "bias" and active >= 200,
            f"{active:,} steps" if config.balancing == "bias" else "no bias",
        ),
        Criterion("No expert has more than 35\u00a0% of the tokens.", share <= 0.35, percent(share)),
        Criterion("No expert is dead.", num_dead == 0, f"{number(num_dead, 0)} dead"),
    ]


def _sigmoid_conclusion(history: History, config: RunConfig) -> Paragraphs:
    bias = history.layer().last("selection_bias")
    return (
        f"With a rate of {config.bias_rate:g} the busiest expert has {percent(token_share(history))} of the tokens, "
        "two experts each. No loss was added, so no gradient fights the task.",
        f"The biases range from {number(float(bias.min()))} to {number(float(bias.max()))}. They are comparable with "
        "scores between 0 and 1, which sigmoid scores always are; a logit could be anything.",
    )


SIGMOID = Lesson(
    slug="sigmoid-and-bias",
    title="Sigmoid scores and a bias",
    goal="Balance a router with sigmoid scores by a selection bias alone: at step 450 no expert has more than "
    "35\u00a0% of the tokens (even would be 25\u00a0%), and none is dead.",
    tab="mechanism",
    knobs=("balancing", "bias_rate"),
    start={"score_function": "sigmoid", "top_k": 2, "renormalize": True, "balancing": "none"},
    look_for=(
        "The first 150 steps: sigmoid scores do not prevent the collapse.",
        "Mechanism: the bias of each expert, once it is on. Up for idle experts, down for busy ones.",
        "The rate: at 0.001 the bias needs hundreds of steps to outweigh a collapsed router.",
        "Task loss: it does not jump, because the combine weights do not contain the bias.",
    ),
    story={
        "beginner": (
            "Until now the experts shared one cake: if one score rose, the others fell. Sigmoid scores stand alone: "
            "each expert gets a mark between 0 and 1.",
            "Marks can be corrected. Idle experts get a bonus that grows with every idle step, busy ones a malus. This "
            "is how one of today's largest open models keeps 256 experts busy.",
        ),
        "practitioner": (
            "The top-k of s + b are chosen; the combine weight is s, divided by the sum over the chosen. The bias "
            "decides who works, not how much their answer counts.",
            "The rate is a speed: bias moves by it each step, whatever the excess. Too slow, and the router runs away "
            "first; too fast, and choices flicker.",
        ),
        "expert": (
            "DeepSeek-V3 (2024, eq. 14-16): s = σ(z), the top-k of s + b, g = s / Σ_chosen s, γ = 0.001. For a loss, P "
            "uses s / Σ s over all experts: with raw s the router could lower the loss by shrinking every score.",
            "With k = 1 the normalized weight would be constant 1 and the router would get no task gradient; that is "
            "refused here. Measured from a collapsed start, six seeds: a rate of 0.003 ends at 26 to 32\u00a0%, 0.001 "
            "at 27 to 75\u00a0%.",
        ),
    },
    hint="At step 150, set the balancing mechanism to selection bias with a rate of 0.003. Train to step 450.",
    criteria=_sigmoid_criteria,
    conclude=_sigmoid_conclusion,
    intended=(Event(150, {"balancing": "bias", "bias_rate": 0.003}),),
    intended_steps=SIGMOID_JUDGED_AT,
)
