"""Lessons 6 and 7: what caps and larger k do to a router, and what they do not."""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import WINDOW, dead, first_move, mean, number, percent


def _capped(history: History, config: RunConfig) -> list[Criterion]:
    factor, dropped, worst = config.capacity_factor, mean(history, "dropped_fraction"), _worst_dropped(history)
    return [
        Criterion("For 20 steps the cap drops more than 30\u00a0% of the tokens.", worst > 0.3, percent(worst)),
        Criterion(
            "The capacity factor is on, and at most 1.25.",
            factor is not None and factor <= 1.25,
            "off" if factor is None else f"{factor:g}",
        ),
        Criterion("Now it drops less than 10\u00a0%.", dropped < 0.1, percent(dropped)),
        Criterion("No expert is dead.", dead(history) == 0, f"{number(dead(history), 0)} dead"),
    ]


def _worst_dropped(history: History) -> float:
    values = history.column("dropped_fraction")
    return float(np.convolve(values, np.ones(WINDOW) / WINDOW, "valid").max()) if len(values) >= WINDOW else np.nan


def _after_the_cap(history: History, config: RunConfig) -> Paragraphs:
    return (
        f"The cap dropped up to {percent(_worst_dropped(history))} of the tokens and drops "
        f"{percent(mean(history, 'dropped_fraction'))} now. The balancing loss made the demand even, so that the cap "
        "has hardly anything left to cut.",
        f"A cap alone bounds the wait for the busiest device, and pays with tokens that no expert computes: "
        f"{percent(mean(history, 'unserved_fraction'))} of them at the moment.",
    )


CAPACITY = Lesson(
    slug="capacity",
    title="Capacity and dropped tokens",
    goal="Start with a capacity factor of 1, which drops more than 30\u00a0% of the tokens, and get below 10\u00a0% "
    "with a factor of at most 1.25 and no dead expert.",
    tab="capacity",
    knobs=("aux_loss_coef", "capacity_factor"),
    start={"capacity_factor": 1.0},
    look_for=(
        "Hollow dots on the routing map: tokens that capacity drops.",
        "Demand and capacity: the part of each bar above the dashed limit is thrown away.",
        "Raise the factor alone: how much less is dropped, and how many experts are still dead?",
        "Then raise α: the demand itself evens out.",
    ),
    story={
        "beginner": (
            "Give each expert a fixed number of seats. Who finds no seat is not helped by any expert and goes on "
            "unchanged. That is what dropped means.",
            "Seats force some evenness, but at the cost of those who were turned away. It is better when they come to "
            "different doors in the first place.",
        ),
        "practitioner": (
            "With 256 tokens, one choice each, eight experts and a factor of 1, an expert has 32 seats. A favourite "
            "that is wanted by all then serves 32 tokens and turns 224 away.",
            "α is the soft push through gradients, capacity the hard cap. Real runs use both, with a factor between 1 "
            "and 2: the loss keeps demand even, the cap bounds memory and time when it is not.",
        ),
        "expert": (
            "C = ⌈factor · T · K / E⌉ as in Megatron-LM; others round otherwise or have a floor. Who is dropped "
            "depends on the order: later tokens (position), or those of lowest combine weight, which V-MoE (Riquelme "
            "et al. 2021) calls batch-priority routing.",
            "A dropped token has no combine weight, so the router gets no task gradient from it. Dropless layers such "
            "as MegaBlocks (Gale et al. 2022) do without C and pay with uneven work instead.",
        ),
    },
    hint="Train to about step 100, then set α to 0.1 and the capacity factor to 1.25.",
    criteria=_capped,
    conclude=_after_the_cap,
    intended=(Event(100, {"aux_loss_coef": 0.1, "capacity_factor": 1.25}),),
    intended_steps=400,
)


def _several(history: History, config: RunConfig) -> list[Criterion]:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    alone = history.initial_config.aux_loss_coef == 0
    choices = history.knob("top_k")[max(0, at - 100) : at]
    by_choices = len(choices) == 100 and bool((choices >= 4).all())
    gone, now = dead(history, at), dead(history)
    return [
        Criterion(
            "At α = 0, Top-k is 4 or more for 100 steps.",
            alone and by_choices,
            f"k = {config.top_k}, α = {config.aux_loss_coef:g}",
        ),
        Criterion(
            "Then at most half of the experts are dead.",
            alone and by_choices and gone <= config.num_experts / 2,
            f"{number(gone, 0)} dead at step {at}",
        ),
        Criterion(
            "With α on top of it, at k = 2 or more, none is.",
            rescue is not None and config.aux_loss_coef > 0 and config.top_k >= 2 and now == 0,
            f"{number(now, 0)} dead now",
        ),
    ]


def _after_several(history: History, config: RunConfig) -> Paragraphs:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    k = history.config_at(max(1, at)).top_k
    return (
        f"With k = {k} and α = 0, {number(dead(history, at), 0)} of {config.num_experts} experts were still dead. At "
        f"least {k} experts must work at k = {k}, whatever the router likes, so some of the cure is arithmetic.",
        f"It is paid for: a step with k = {k} computes {k} times as much in the experts. α needs no more computing, "
        f"and leaves {number(dead(history), 0)} dead.",
    )


TOP_K = Lesson(
    slug="top-k",
    title="More than one expert: top-k",
    goal="At α = 0 raise Top-k to 4 or more for 100 steps, so that at most half of the experts are dead; then use α to "
    "have none dead.",
    tab="coactivation",
    knobs=("top_k", "aux_loss_coef"),
    look_for=(
        "With k = 2 two experts take over, not one: each has close to 50\u00a0% of the choices.",
        "Experts come back when k rises, because each token must go somewhere else too.",
        "Co-activation: does every expert share tokens with every other, or with always the same?",
    ),
    story={
        "beginner": (
            "Instead of one expert, each token may ask two or four. The favourite still gets everything, but the "
            "second and third in line get something to do as well.",
            "That makes collapse milder. It does not end it.",
        ),
        "practitioner": (
            "Every token takes k experts, so at least k of E are in use and no expert has more than 1/k of the "
            "choices. In this task at α = 0 most experts are dead with k = 2, and some still are with k = 4.",
            "A larger k costs computing in proportion. Mixtral takes 2 of 8; recent models take more and smaller "
            "experts.",
        ),
        "expert": (
            "y = Σ over the k chosen of p_i E_i, here without renormalizing. f is counted over all T·K choices; with "
            "transformers' convention, over T, the balanced value of E · Σ fᵢ Pᵢ is k, and 8 rather than 4 when "
            "all tokens take the same 2 of 8.",
            "Only chosen experts get gradients, but the comparison is now within a token: the router sees k values "
            "⟨g, E_i⟩ and can rank them. Shazeer et al. (2017) thought k > 1 necessary for that; Fedus et al. (2021) "
            "showed that k = 1 works.",
        ),
    },
    hint="Train to step 100, set Top-k to 4, train 150 steps more, then set α to 0.1.",
    criteria=_several,
    conclude=_after_several,
    intended=(Event(100, {"top_k": 4}), Event(250, {"aux_loss_coef": 0.1})),
    intended_steps=400,
)
