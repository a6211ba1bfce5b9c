"""Several layers: each collapses by itself, and a loss over all of them can hide it."""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import percent
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import WINDOW, dead, enough_steps, first_move, mean, number, steps_since

LEFT_ALONE = 200
"""Minimum steps before the rescue."""
SETTLED = 100
"""Minimum steps after it."""
HALF, EVEN = 0.5, 0.4
"""Shares of the tokens: a layer's busiest expert has more than the first, then at most the second."""


def busiest_by_layer(history: History, stop: int | None = None) -> np.ndarray:
    """(L,) the busiest expert's smoothed share of the token choices in each layer, after step `stop` (None: the
    newest); NaN where there is no such step."""
    end = len(history) if stop is None else stop
    load = history.column("smoothed_load", 0, end)
    return load[-1].max(1) if 0 < end <= len(history) else np.full(history.num_layers, np.nan)


def _shares_in_words(shares: np.ndarray) -> str:
    return ", ".join("–" if np.isnan(share) else percent(float(share)) for share in shares)


def _collapsed_layers(history: History, stop: int) -> int:
    return int((busiest_by_layer(history, stop) > HALF).sum())


def _rescued(history: History, *names: str) -> list[Criterion]:
    """That enough steps after the last move no layer is collapsed any more."""
    shares, since = busiest_by_layer(history), steps_since(history, *names)
    moved = any(first_move(history, name) for name in names)
    return [
        Criterion(
            f"At least {SETTLED} steps later no expert of any layer has more than {percent(EVEN)}.",
            moved and since >= SETTLED and bool((shares <= EVEN).all()),
            _shares_in_words(shares),
        ),
        Criterion(
            "No layer has more than one dead expert.", dead(history) <= 1, f"{number(dead(history), 0)} in the worst"
        ),
    ]


def _differ_criteria(history: History, config: RunConfig) -> list[Criterion]:
    move = first_move(history, "aux_loss_coef", LEFT_ALONE)
    left_alone = move.step if move else len(history)
    collapsed = _collapsed_layers(history, left_alone)
    return [
        enough_steps(history, LEFT_ALONE),
        Criterion(
            f"At α = 0, for {LEFT_ALONE} steps or more, every layer collapses: one expert has more than half.",
            left_alone >= LEFT_ALONE and collapsed == history.num_layers,
            f"{collapsed} of {history.num_layers} layers",
        ),
        *_rescued(history, "aux_loss_coef"),
    ]


def _differ_conclusion(history: History, config: RunConfig) -> Paragraphs:
    above = history.column("smoothed_load").max(2) > HALF
    when = ", ".join(str(int(steps.argmax()) + 1) if steps.any() else "never" for steps in above.T)
    move = first_move(history, "aux_loss_coef", LEFT_ALONE)
    before = history.column("smoothed_load")[(move.step if move else len(history)) - 1]
    experts = ", ".join(str(int(expert) + 1) for expert in before.argmax(1))
    return (
        f"One expert first had more than half of the tokens at step {when} in layers 1 to {history.num_layers}: the "
        f"experts {experts}. Each layer has a router of its own and falls for an expert of its own.",
        f"Now the busiest experts of the layers have {_shares_in_words(busiest_by_layer(history))}. A number for the "
        "whole model hides all this: look at every layer.",
    )


DIFFER = Lesson(
    slug="layers-collapse-differently",
    title="Layers collapse differently",
    goal=f"Train three layers at α = 0 for {LEFT_ALONE} steps, until in each of them one expert has more than half of "
    "the tokens. Then raise α until no expert of any layer has more than 40\u00a0% and no layer has more than one dead "
    "expert.",
    tab="specialization",
    knobs=("aux_loss_coef",),
    start={"num_layers": 3},
    look_for=(
        "Experts by layer: which expert takes over in each layer? Usually not the same one.",
        "Imbalance ratio: a line for each layer. They part at different steps.",
        "Expert utilization with Layer at all: the mean of three collapsed layers looks half healthy.",
        "Move the slider under Experts by layer back to see it happen again.",
    ),
    story={
        "beginner": (
            "A real model has dozens of layers, and each has its own router and its own experts. Expert 3 of one layer "
            "has nothing to do with expert 3 of the next.",
            "So each layer can collapse by itself: early or late, onto any of its experts. One that is fine says "
            "nothing about the others.",
        ),
        "practitioner": (
            "Log the load per layer. Averaged over layers, the loads of three layers that collapsed onto three experts "
            "look like a model that uses three experts a little too much.",
            "The loss is computed for each layer and averaged, so α counts per layer: with more layers, each gets a "
            "smaller share of it.",
        ),
        "expert": (
            "The layers are residual blocks, so a collapsed layer does not starve the next one of information. But its "
            "output shifts the mean of the next layer's input, the direction along which a router collapses. In "
            "Mixtral too, layers specialize to different degrees (Jiang et al. 2024).",
            "Here L = (1/L) Σ_l E · Σ_i f_li P_li. transformers averages f and P over the layers first, which the next "
            "lesson is about.",
        ),
    },
    hint="After step 200 set α to 0.1 and train 150 more steps.",
    criteria=_differ_criteria,
    conclude=_differ_conclusion,
    intended=(Event(LEFT_ALONE, {"aux_loss_coef": 0.1}),),
    intended_steps=LEFT_ALONE + 200,
)

LUMPED_STEPS = 300


def _lumped_criteria(history: History, config: RunConfig) -> list[Criterion]:
    move = first_move(history, "convention", LUMPED_STEPS)
    end = move.step if move else len(history)
    loss = mean(history, "auxiliary_loss", end)
    collapsed = _collapsed_layers(history, end)
    return [
        Criterion(
            f"For {LUMPED_STEPS} steps or more, f is counted as in transformers.",
            end >= LUMPED_STEPS and history.initial_config.convention == "huggingface",
            f"{end:,} steps",
        ),
        Criterion(
            "Then the loss that α weighs is 1.0, to within 0.05: perfect balance, it says.",
            abs(loss - 1) <= 0.05,
            number(loss),
        ),
        Criterion(
            "Yet in half of the layers or more, one expert has more than half of the tokens.",
            collapsed >= history.num_layers / 2,
            f"{collapsed} of {history.num_layers} layers",
        ),
        *_rescued(history, "convention"),
    ]


def _lumped_conclusion(history: History, config: RunConfig) -> Paragraphs:
    move = first_move(history, "convention", LUMPED_STEPS)
    end = move.step if move else len(history)
    before = history.column("smoothed_load")[end - 1]
    experts = ", ".join(str(int(expert) + 1) for expert in before.argmax(1))
    return (
        f"At step {end} the loss over all layers was {number(mean(history, 'auxiliary_loss', end))}, and their own "
        f"losses were {number(mean(history, 'balance_loss', end))} on average. The layers' busiest experts were "
        f"{experts}: nearly one each, so that together they look even.",
        f"With one loss for each layer the busiest now have {_shares_in_words(busiest_by_layer(history))}. Nothing "
        f"else has changed, not even α. The means are over {WINDOW} steps.",
    )


LUMPED = Lesson(
    slug="a-loss-that-reads-one",
    title="A loss that reads 1 while every layer has collapsed",
    goal=f"Train six layers for {LUMPED_STEPS} steps with the loss that transformers computes, over all layers at "
    "once. It reads 1, perfect balance, while at least half of the layers have collapsed. Then change what the loss "
    "counts, not α, and balance them all.",
    tab="why",
    knobs=("convention",),
    start={"num_layers": 6, "num_experts": 6, "convention": "huggingface", "aux_loss_coef": 0.3},
    look_for=(
        "Experts by layer: a dark cell in each row, hardly two in one column.",
        "Expert utilization with Layer at all: even, as the loss sees it. Then choose a single layer.",
        "Task and load-balancing loss: dotted, the loss that α weighs, lies at 1; the layers' own losses rise above 2.",
        "Then choose per_choice as the convention: each layer gets a loss of its own.",
    ),
    story={
        "beginner": (
            "Six teams, and in each one person does all the work. If it is a different person in each team, then on a "
            "list of all six the work looks evenly shared.",
            "That is what this loss looks at: the list. It is content, and nobody is relieved. Look at every team.",
        ),
        "practitioner": (
            "transformers concatenates the router logits of all layers before it counts f and averages P. Layers that "
            "collapse onto different experts cancel out: six layers on six experts score exactly 1.",
            "The loss does not merely fail to notice. Its pull spreads the layers over the experts, which is all that "
            "it asks for, and leaves each of them collapsed.",
        ),
        "expert": (
            "With f̄_i = (1/L) Σ_l f_li and P̄ likewise the loss is E · Σ_i f̄_i P̄_i. Its gradient on layer l is E/L · "
            "f̄_i per unit of P_li: the same for all layers, and zero in every direction once f̄ is uniform, however "
            "uneven the f_l are.",
            "The loss per layer, as the Switch Transformer has it (Fedus et al. 2021), has f_li in its place. It costs "
            "nothing more: the sums are the same, only taken in another order.",
        ),
    },
    hint="After step 300 open the group Balancing and set the convention of the load-balancing loss to per_choice.",
    criteria=_lumped_criteria,
    conclude=_lumped_conclusion,
    intended=(Event(LUMPED_STEPS, {"convention": "per_choice"}),),
    intended_steps=LUMPED_STEPS + 150,
)
