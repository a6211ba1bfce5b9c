"""What a capacity limit and a larger k do to a router, and what they do not."""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import percent
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import WINDOW, dead, first_move, mean, number


def _capacity_criteria(history: History, config: RunConfig) -> list[Criterion]:
    factor, dropped, worst = config.capacity_factor, mean(history, "dropped_fraction"), _worst_dropped(history)
    return [
        Criterion("For 20 steps the limit drops more than 30\u00a0% of the tokens.", worst > 0.3, percent(worst)),
        Criterion(
            "The capacity factor is set, to at most 1.25.",
            factor is not None and factor <= 1.25,
            "off" if factor is None else f"{factor:g}",
        ),
        Criterion("Now the limit drops less than 10\u00a0%.", dropped < 0.1, percent(dropped)),
        Criterion("No expert is dead.", dead(history) == 0, f"{number(dead(history), 0)} dead"),
    ]


def _worst_dropped(history: History) -> float:
    values = history.column("dropped_fraction")
    return float(np.convolve(values, np.ones(WINDOW) / WINDOW, "valid").max()) if len(values) >= WINDOW else np.nan


def _capacity_conclusion(history: History, config: RunConfig) -> Paragraphs:
    return (
        f"The limit dropped up to {percent(_worst_dropped(history))} of the tokens and drops "
        f"{percent(mean(history, 'dropped_fraction'))} now. The load-balancing loss evened out the demand, so the "
        "limit has hardly anything left to cut.",
        "A limit alone bounds the wait for the busiest device. The price is tokens that no expert computes, "
        f"{percent(mean(history, 'unserved_fraction'))} at the moment.",
    )


CAPACITY = Lesson(
    slug="capacity",
    title="Capacity and dropped tokens",
    goal="Start with a capacity factor of 1, which drops more than 30\u00a0% of the tokens. Get below 10\u00a0% with a "
    "factor of at most 1.25 and no dead expert.",
    tab="capacity",
    knobs=("aux_loss_coef", "capacity_factor"),
    start={"capacity_factor": 1.0},
    look_for=(
        "Hollow dots on the routing map: tokens that capacity drops.",
        "Demand and capacity: the part of each bar above the dashed line is dropped.",
        "Raise only the factor: how much less is dropped, and how many experts are still dead?",
        "Then raise α: now the demand itself evens out.",
    ),
    story={
        "beginner": (
            "Give each expert a fixed number of seats. A token without a seat skips the experts and passes on "
            "unchanged: it is dropped.",
            "Seats force some evenness, at the cost of the tokens turned away. It is better if tokens ask for "
            "different experts in the first place.",
        ),
        "practitioner": (
            "With 256 tokens, one choice each, eight experts and a factor of 1, an expert has 32 seats. If all tokens "
            "want the same expert, it serves 32 of them and turns 224 away.",
            "α is a soft push through gradients, capacity a hard limit. Real runs use both, with a factor between 1 "
            "and 2: the loss keeps demand even, and the limit bounds memory and time when it is not.",
        ),
        "expert": (
            "C = ⌈factor · T · K / E⌉ as in Megatron-LM; others round differently or have a floor. The drop order "
            "decides which tokens are dropped: later ones (position), or those with the lowest combine weight, which "
            "is close to V-MoE's Batch Prioritized Routing (Riquelme et al. 2021), which orders tokens.",
            "A dropped token has no combine weight, so the router gets no task gradient from it. Dropless layers such "
            "as MegaBlocks (Gale et al. 2022) have no C, and pay with uneven work instead.",
        ),
    },
    hint="Train to about step 100, then set α to 0.1 and the capacity factor to 1.25.",
    criteria=_capacity_criteria,
    conclude=_capacity_conclusion,
    intended=(Event(100, {"aux_loss_coef": 0.1, "capacity_factor": 1.25}),),
    intended_steps=400,
)


def _top_k_criteria(history: History, config: RunConfig) -> list[Criterion]:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    left_alone = history.initial_config.aux_loss_coef == 0
    choices = history.knob("top_k")[max(0, at - 100) : at]
    enough_choices = len(choices) == 100 and bool((choices >= 4).all())
    dead_before, dead_now = dead(history, at), dead(history)
    return [
        Criterion(
            "At α = 0, Top-k is 4 or more for 100 steps.",
            left_alone and enough_choices,
            f"k = {config.top_k}, α = {config.aux_loss_coef:g}",
        ),
        Criterion(
            "Then at most half of the experts are dead.",
            left_alone and enough_choices and dead_before <= config.num_experts / 2,
            f"{number(dead_before, 0)} dead at step {at}",
        ),
        Criterion(
            "With α above 0 and k = 2 or more, none is dead.",
            rescue is not None and config.aux_loss_coef > 0 and config.top_k >= 2 and dead_now == 0,
            f"{number(dead_now, 0)} dead now",
        ),
    ]


def _top_k_conclusion(history: History, config: RunConfig) -> Paragraphs:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    k = history.config_at(max(1, at)).top_k
    return (
        f"With k = {k} and α = 0, {number(dead(history, at), 0)} of {config.num_experts} experts were still dead. With "
        f"k = {k} at least {k} experts must work, whatever the router prefers, so part of the improvement is "
        "arithmetic.",
        f"The price: a step with k = {k} computes {k} times as much in the experts. α costs no extra compute and "
        f"leaves {number(dead(history), 0)} dead.",
    )


TOP_K = Lesson(
    slug="top-k",
    title="More than one expert: top-k",
    goal="At α = 0, raise Top-k to 4 or more for 100 steps, so that at most half of the experts are dead. Then use α "
    "so that none is dead.",
    tab="coactivation",
    knobs=("top_k", "aux_loss_coef"),
    look_for=(
        "With k = 2 two experts take over, not one: each has close to 50\u00a0% of the choices.",
        "Experts come back when k rises, because each token must also go somewhere else.",
        "Co-activation: does each expert share tokens with every other expert, or always with the same one?",
    ),
    story={
        "beginner": (
            "Instead of one expert, each token may visit two or four. The favourite still gets everything, but the "
            "second and third choices get some work too.",
            "That makes collapse milder. It does not end it.",
        ),
        "practitioner": (
            "Every token takes k experts, so at least k of E are in use and no expert has more than 1/k of the "
            "choices. In this task at α = 0 most experts are dead with k = 2, and some still are with k = 4.",
            "Compute grows in proportion to k. Mixtral uses 2 of 8; recent models use more and smaller experts.",
        ),
        "expert": (
            "y = Σ over the k chosen of p_i E_i, here not renormalized. f counts all choices over T·K. In the "
            "convention of transformers, over T, E · Σ fᵢ Pᵢ is k at balance, and 8 instead of 4 when all tokens "
            "choose the same 2 of 8.",
            "Only chosen experts get gradients, but now each token compares several: the router sees k values ⟨g, E_i⟩ "
            "and can rank them. Shazeer et al. (2017) thought k > 1 necessary for that; Fedus et al. (2021) showed "
            "that k = 1 works.",
        ),
    },
    hint="Train to step 100, set Top-k to 4, train 150 more steps, then set α to 0.1.",
    criteria=_top_k_criteria,
    conclude=_top_k_conclusion,
    intended=(Event(100, {"top_k": 4}), Event(250, {"aux_loss_coef": 0.1})),
    intended_steps=400,
)
