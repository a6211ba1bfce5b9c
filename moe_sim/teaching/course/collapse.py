"""Lessons 1 to 3: a router collapses, why it does, and how α brings its experts back."""

from __future__ import annotations

import numpy as np

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import (
    dead,
    enough_steps,
    first_even_stretch,
    first_move,
    mean,
    number,
    per_expert,
    percent,
    smoothed_load,
    token_share,
)

LEFT_ALONE = 50
"""Steps that a router is left alone before its rescue."""


def _watched(history: History, config: RunConfig) -> list[Criterion]:
    share, gone, num_experts = token_share(history), dead(history), config.num_experts
    return [
        enough_steps(history, 200),
        Criterion("One expert takes more than 90\u00a0% of the tokens.", share > 0.9, percent(share)),
        Criterion(
            "At least six of eight experts are dead.", gone >= 0.75 * num_experts, f"{number(gone, 0)} of {num_experts}"
        ),
    ]


def _after_watching(history: History, config: RunConfig) -> Paragraphs:
    task_loss = history.column("task_loss")
    share = history.column("smoothed_load").max(1)
    since = int(np.argmax(share > 0.9)) + 1
    return (
        f"At step {since} one expert had more than 90\u00a0% of the tokens for the first time. The model pays for "
        f"{config.num_experts} experts and uses {config.num_experts - int(history.last('dead_experts'))}.",
        f"All the while the task loss fell, from {task_loss[0]:.2f} to {mean(history, 'task_loss'):.2f}. Nothing in "
        "that curve says that something is wrong, so look at the load.",
    )


WATCH = Lesson(
    slug="watch-it-collapse",
    title="Watch it collapse",
    goal="Train for 200 steps at α = 0, until one expert takes more than 90\u00a0% of the tokens and at least six of "
    "eight are dead.",
    tab="specialization",
    knobs=(),
    look_for=(
        "The routing map turns one colour.",
        "All bars of expert utilization but one shrink to nothing and are labelled dead.",
        "The imbalance ratio goes to ∞.",
        "The task loss falls as if all were well.",
    ),
    story={
        "beginner": (
            "Eight small networks, the experts, share the work. For each piece of data, a token, a router picks the "
            "one expert that shall deal with it.",
            "Nobody tells the router to be fair. Press Train and see how soon it has a favourite.",
        ),
        "practitioner": (
            "The router is one linear map with a softmax, trained by the task loss alone. Each token goes to its most "
            "probable expert, and that expert's output is weighted by its probability.",
            "Collapse is a failure that the loss curve hides. Log the share of tokens of each expert; an expert with "
            "less than a tenth of an even share, averaged over some 20 steps, is called dead here.",
        ),
        "expert": (
            "y = p_e(x) · E_e(x) with e = argmax p(x), p = softmax(x W). There is no balancing term, and the kept "
            "weight is not renormalized: with k = 1 it would be the constant 1 and the router would get no task "
            "gradient.",
            "Shazeer et al. (2017) describe the same end: the gate settles on a few experts and reinforces itself. The "
            "lever in this task is the direction that all tokens share, which makes the first routing lopsided.",
        ),
    },
    hint="Press Train and move nothing. It takes a few seconds.",
    criteria=_watched,
    conclude=_after_watching,
    intended_steps=250,
)


def _in_the_loop(history: History, config: RunConfig) -> list[Criterion]:
    share = token_share(history)
    pull, way = (_median_over_largest(history, name) for name in ("grad_norm", "weight_distance"))
    return [
        enough_steps(history, 200),
        Criterion("One expert takes more than 40\u00a0% of the tokens.", share > 0.4, percent(share)),
        Criterion("The median expert's gradient is below 5\u00a0% of the largest.", pull < 0.05, percent(pull)),
        Criterion(
            "The median expert's weights have come less than half as far as the furthest.", way < 0.5, percent(way)
        ),
    ]


def _median_over_largest(history: History, name: str) -> float:
    values = per_expert(history, name)
    return float(np.median(values) / values.max()) if values.max() > 0 else np.nan


def _after_the_loop(history: History, config: RunConfig) -> Paragraphs:
    first, second = np.sort(history.column("load")[0])[::-1][:2]
    gradient = per_expert(history, "grad_norm")
    return (
        f"In the first step one expert had {percent(first)} of the tokens and the next {percent(second)}. Now the "
        f"busiest has {percent(token_share(history))} and the idlest {percent(smoothed_load(history).min())}.",
        f"The largest gradient norm of an expert is {gradient.max():.2g}, the median {np.median(gradient):.2g}. An "
        "expert without tokens has no gradient, so it cannot become worth choosing.",
    )


WHY = Lesson(
    slug="why",
    title="Why: the feedback loop",
    goal="In 200 steps at α = 0, see one expert take more than 40\u00a0% of the tokens while the median expert's "
    "gradient falls below 5\u00a0% of the largest.",
    tab="feedback",
    knobs=(),
    start={"shared_direction": 1.0},
    look_for=(
        "Token share: who is ahead after the first ten steps?",
        "Gradient norm: the lines of experts without tokens end, because there is nothing to draw at 0.",
        "Distance covered: idle experts stand still while busy ones move on.",
    ),
    story={
        "beginner": (
            "Think of two experts that begin alike, but by chance one gets 27\u00a0% of the tokens and the other "
            "23\u00a0%. The first has more to practise on, gets better, and is chosen more often.",
            "The others get less and less practice. They are not bad by nature; they are bad because nobody asks them.",
        ),
        "practitioner": (
            "Token share → gradient → improvement → token share. The four charts of this view show one turn of the "
            "loop each. An expert's gradient comes only from the tokens it was sent: none sent, none learned.",
            "Here the tokens have less in common than by default, so that the race takes a little longer. With the "
            "default, one expert has more than half of the tokens in the very first step.",
        ),
        "expert": (
            "For y = p_e E_e and g = ∂L/∂y, the router's gradient is ∂L/∂z_j = p_e (δ_ej − p_j) ⟨g, E_e(x)⟩: as soon "
            "as the chosen expert helps, ⟨g, E_e⟩ < 0, descent raises z_e and lowers every other logit.",
            "No expert that was not chosen appears in that formula, so nothing can show it to be better. That is why a "
            "balancing term has to come from elsewhere (Shazeer et al. 2017; Fedus et al. 2021).",
        ),
    },
    hint="Press Train, move nothing, and keep the view Feedback loop open.",
    criteria=_in_the_loop,
    conclude=_after_the_loop,
    intended_steps=200,
)


def _rescued(history: History, config: RunConfig) -> list[Criterion]:
    move = first_move(history, "aux_loss_coef")
    at = move.step if move is not None else len(history)
    alone = history.initial_config.aux_loss_coef == 0 and at >= LEFT_ALONE
    share = token_share(history, at)
    even = None if move is None else first_even_stretch(history, at, 2 / config.num_experts)
    return [
        Criterion(
            f"At α = 0 for at least {LEFT_ALONE} steps, one expert takes more than half of the tokens.",
            alone and share > 0.5,
            f"{percent(share)} at step {at}",
        ),
        Criterion("Then α is raised.", alone and move is not None, "not yet" if move is None else f"at step {at}"),
        Criterion(
            "After that come 20 steps in a row without a dead expert and with none above twice its even share.",
            alone and even is not None,
            f"{number(dead(history), 0)} dead now" if even is None else f"by step {even}",
        ),
    ]


def _after_the_rescue(history: History, config: RunConfig) -> Paragraphs:
    move = first_move(history, "aux_loss_coef")
    at = 0 if move is None else move.step
    even = first_even_stretch(history, at, 2 / config.num_experts)
    took = "All experts came back" if even is None else f"All experts came back within {even - at} steps"
    return (
        f"{took}. The busiest had {percent(token_share(history, at))} of the tokens and has "
        f"{percent(token_share(history))} now; task loss was {number(mean(history, 'task_loss', at))} and is "
        f"{number(mean(history, 'task_loss'))}.",
        "Keep on training for a while: after a rescue an expert may fall silent once more before it has found its "
        "tokens, and specialization grows long after the load is even.",
    )


RESCUE = Lesson(
    slug="first-rescue",
    title="The first α",
    goal=f"Leave the router alone for at least {LEFT_ALONE} steps, then bring all eight experts back: for 20 steps in "
    f"a row none is dead and none has more than 25\u00a0% of the tokens.",
    tab="why",
    knobs=("aux_loss_coef",),
    look_for=(
        "The marker on the time axes where you moved α.",
        "The routing map breaks from one colour into territories.",
        "Load f and importance P: the busiest expert's P is pressed down first, and its f follows.",
        "Task loss may stand still for a moment: the experts that come back know nothing yet.",
    ),
    story={
        "beginner": (
            "α is the weight of a second wish: besides doing the task well, spread the work. At 0 the wish counts for "
            "nothing.",
            "Wait until one expert has nearly everything, then move α to 0.1. You can do that while it trains.",
        ),
        "practitioner": (
            "The load-balancing loss multiplies, for every expert, the share of tokens that it got with the mean "
            "probability that the router gives it, and adds these up. The busier an expert, the harder its "
            "probability is pressed down.",
            "A router that has collapsed can be rescued while its logits are still small: with the usual α the first "
            "signs show within some 30 steps.",
        ),
        "expert": (
            "L = E · Σ fᵢ Pᵢ (Fedus et al. 2021). f comes from an argmax and is a constant to the gradient; for one "
            "token ∂L/∂z_j = (E/T) p_j (f_j − Σ fᵢ pᵢ), which is negative for every expert below its share.",
            "1 is the value at balance but neither a floor, as f = (0.6, 0.4) with P = (0.31, 0.69) gives 0.924, nor a "
            "proof: with nearly uniform P the loss is near 1 however lopsided f is. Judge by the load.",
        ),
    },
    hint="Train to about step 100, then move Load-balancing coefficient α to 0.1 without a reset.",
    criteria=_rescued,
    conclude=_after_the_rescue,
    intended=(Event(100, {"aux_loss_coef": 0.1}),),
    intended_steps=200,
)
