"""Runaway routers, and balance without a loss."""

from __future__ import annotations

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import percent
from moe_sim.history.history import History
from moe_sim.router.balancing import METHODS
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import (
    dead,
    enough_steps,
    held_out_load,
    mean,
    number,
    per_expert,
    smoothed_load,
    steps_since,
)

JUMP, BACK, JUMP_JUDGED_AT = 100, 150, 400


def _z_loss_criteria(history: History, config: RunConfig) -> list[Criterion]:
    steps_at_high_rate = int((history.knob("learning_rate") >= 0.1).sum())
    largest = float(history.column("router_logit_max").max(initial=0.0))
    num_dead = dead(history)
    return [
        enough_steps(history, JUMP_JUDGED_AT),
        Criterion(
            "The learning rate is 0.1 for 50 steps.", steps_at_high_rate >= BACK - JUMP, f"{steps_at_high_rate} steps"
        ),
        Criterion("No router logit ever exceeds 15.", 0 < largest < 15, f"largest {number(largest, 1)}"),
        Criterion("At most two experts are dead at the end.", num_dead <= 2, f"{number(num_dead, 0)} dead"),
    ]


def _z_loss_conclusion(history: History, config: RunConfig) -> Paragraphs:
    largest = history.column("router_logit_max").max()
    return (
        f"The learning rate jumped, and the largest logit of the whole run was {number(largest, 1)}. With a z-loss "
        f"coefficient of {config.z_loss_coef:g} mean(logsumexp(z)²) is {number(mean(history, 'z_loss'))} now.",
        f"Dead experts: {number(dead(history), 0)}; router entropy is {number(mean(history, 'router_entropy'))}. The "
        "price of such a strong term: probabilities stay close together, even long after the jump.",
    )


Z_LOSS = Lesson(
    slug="z-loss",
    title="The runaway router: z-loss",
    goal="Survive a jump of the learning rate to 0.1 at step 100 with no router logit ever above 15 and at most two "
    "dead experts at step 400.",
    tab="router",
    knobs=("z_loss_coef", "aux_loss_coef"),
    start={"aux_loss_coef": 0.1, "router_init": "plain", "warmup_steps": 0},
    plan=(Event(JUMP, {"learning_rate": 0.1}), Event(BACK, {"learning_rate": 0.003})),
    look_for=(
        "Router logits at step 100: they jump up within a few steps.",
        "Pulls on the router afterwards: both gradients have shrunk, on most seeds to nearly nothing.",
        "The diagnosis says Saturated. Raise α as far as you like and see what happens.",
        "Then reset and set the z-loss before the jump.",
    ),
    story={
        "beginner": (
            "The router's scores can grow without limit. Once they are huge the router is absolutely certain, and a "
            "router this certain no longer responds, even to α.",
            "The z-loss keeps scores small from the start, so the router stays able to learn.",
        ),
        "practitioner": (
            "A spike, here of the learning rate, throws the logits far apart. For most tokens the softmax saturates at "
            "0 and 1, where it has almost no gradient. The load-balancing loss works through that gradient, so it has "
            "little effect.",
            "The remedy is prevention: penalize large logits. In large models the usual coefficient is 0.001. This "
            "jump is violent: it takes about 1 to contain it, and 0.1 is not enough.",
        ),
        "expert": (
            "L_z = (1/T) Σ (log Σ exp z_j)² (Zoph et al. 2022, ST-MoE), with ∂L_z/∂z_j = (2/T) · logsumexp(z) · p_j: "
            "it pulls on the winner with full force exactly where ∂p/∂z = p(1 − p) vanishes.",
            "It does not balance by itself. It is smallest where logsumexp(z) = 0, for example with all logits at −ln "
            "E. A second benefit is precision, since rounding errors in bfloat16 grow with the logits.",
        ),
    },
    hint="Reset and set Router z-loss coefficient, in the group Balancing, to 1 before step 100. Leave α at 0.1.",
    criteria=_z_loss_criteria,
    conclude=_z_loss_conclusion,
    intended_start={"z_loss_coef": 1.0},
    intended_steps=JUMP_JUDGED_AT,
)

WITHOUT_LOSS = ("bias", "expert_choice", "sinkhorn")
EVEN = 0.22


def _mechanisms_criteria(history: History, config: RunConfig) -> list[Criterion]:
    active_steps = steps_since(history, "balancing", "bias_rate")
    training, inference = float(smoothed_load(history).max()), held_out_load(history)
    return [
        Criterion(
            "A mechanism without a loss is active for 200 steps: bias, expert choice or Sinkhorn.",
            config.balancing in WITHOUT_LOSS and active_steps >= 200,
            f"{METHODS[config.balancing].label}, {active_steps:,} steps",
        ),
        Criterion("In training no expert has more than 22\u00a0%.", training <= EVEN, percent(training)),
        Criterion("Nor in inference, on held-out tokens.", inference <= EVEN, percent(inference)),
        Criterion("No expert is dead.", dead(history) == 0, f"{number(dead(history), 0)} dead"),
    ]


def _mechanisms_conclusion(history: History, config: RunConfig) -> Paragraphs:
    preferred = float(per_expert(history, "preferred_load").max())
    return (
        f"With {METHODS[config.balancing].label} the busiest expert has {percent(float(smoothed_load(history).max()))} "
        f"in training and {percent(held_out_load(history))} in inference. By the router's own scores alone, it would "
        f"be {percent(preferred)}.",
        "Balancing by selection leaves the router's preference as it is. A bias also applies to a token that comes "
        "alone; a selection that compares the tokens of a batch does not.",
    )


MECHANISMS = Lesson(
    slug="other-mechanisms",
    title="Balance without a loss",
    goal="With α = 0, find a mechanism that keeps every expert at or below 22\u00a0% of the tokens, in training and in "
    "inference, with none dead.",
    tab="mechanism",
    knobs=("balancing", "bias_rate"),
    start={"balancing": "expert_choice"},
    look_for=(
        "Mechanism: the grey bars are what the router itself prefers, the coloured ones what was selected.",
        "Expert choice: perfectly even, but some tokens are chosen by no expert.",
        "Inference: the load when tokens are routed one by one.",
        "Try Sinkhorn and bias in turn, 200 steps each.",
    ),
    story={
        "beginner": (
            "There are other ways to share work. Let the experts pick their tokens. Even out the scores of a whole "
            "batch before choosing. Or give idle experts a bonus that grows for as long as they are idle.",
            "All three balance here during training. The question is what remains when a token comes alone.",
        ),
        "practitioner": (
            "Expert choice and Sinkhorn look at a batch as a whole. In inference there may be no batch, or only one of "
            "unrelated tokens. Then only the router's own scores count, and nothing has balanced those.",
            "The bias method keeps one number per expert and adjusts it after every step. It adds no gradient, so it "
            "does not interfere with the task, and it also works on single tokens.",
        ),
        "expert": (
            "Bias (Wang et al. 2024; DeepSeek-V3): select by p_i + b_i, weigh by p_i, b_i ← b_i + γ · sign(mean load − "
            "load_i). γ = 0.001 is usual on sigmoid scores; on the softmax probabilities here 0.01 works well.",
            "Expert choice (Zhou et al. 2022): each expert takes its top T·K/E tokens, which leaks information about "
            "later tokens in causal models. Sinkhorn, as in S-BASE (Clark et al. 2022): select from a doubly "
            "normalized score matrix, weigh by the raw p.",
        ),
    },
    hint="Set the balancing mechanism to bias with a rate of 0.01, and train 250 more steps.",
    criteria=_mechanisms_criteria,
    conclude=_mechanisms_conclusion,
    intended=(Event(200, {"balancing": "bias"}),),
    intended_steps=450,
)
