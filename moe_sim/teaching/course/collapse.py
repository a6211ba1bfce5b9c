"""A router collapses, why it does, and how α brings the experts back."""

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
    first_even_stretch,
    first_move,
    mean,
    number,
    per_expert,
    smoothed_load,
    token_share,
)

LEFT_ALONE = 50
"""Minimum steps without balancing before the rescue."""


def _watch_criteria(history: History, config: RunConfig) -> list[Criterion]:
    share, num_dead, num_experts = token_share(history), dead(history), config.num_experts
    return [
        enough_steps(history, 200),
        Criterion("One expert takes more than half of the tokens.", share > 0.5, percent(share)),
        Criterion(
            "At least half of the experts are dead.",
            num_dead >= 0.5 * num_experts,
            f"{number(num_dead, 0)} of {num_experts}",
        ),
    ]


def _watch_conclusion(history: History, config: RunConfig) -> Paragraphs:
    task_loss = history.column("task_loss")
    share = history.layer().column("smoothed_load").max(1)
    first_above = int(np.argmax(share > 0.5)) + 1
    return (
        f"In the first step no expert had more than {percent(history.layer().column('load')[0].max())} of the tokens. "
        f"At step {first_above} one first had more than half of them. The model pays for "
        f"{config.num_experts} experts and uses {config.num_experts - int(history.last('dead_experts'))}.",
        f"Meanwhile the task loss fell from {task_loss[0]:.2f} to {mean(history, 'task_loss'):.2f}. Nothing in that "
        "curve shows a problem, so look at the load.",
    )


WATCH = Lesson(
    slug="watch-it-collapse",
    title="Watch it collapse",
    goal="Train for 200 steps at α = 0, until one expert takes more than half of the tokens and at least half of the "
    "experts are dead.",
    tab="specialization",
    knobs=(),
    look_for=(
        "At step 0 no bar is above a quarter, and the routing map has many colours.",
        "Around step 50 one bar shoots up, and the map turns one colour.",
        "In Expert utilization all bars but one shrink to nothing and are labelled dead.",
        "The imbalance ratio rises to ∞.",
        "The task loss keeps falling as if nothing were wrong.",
    ),
    story={
        "beginner": (
            "Eight small networks, the experts, share the work. For each piece of data, a token, a router picks the "
            "one expert that will handle it.",
            "Nothing tells the router to be fair. Press Train and see how soon it has a favourite.",
        ),
        "practitioner": (
            "The router is one linear map with a softmax, trained by the task loss alone. Each token goes to its most "
            "probable expert, and that expert's output is weighted by its probability.",
            "The loss curve hides the collapse, so log each expert's share of the tokens. Here an expert with less "
            "than a tenth of an even share, averaged over about 20 steps, is called dead.",
        ),
        "expert": (
            "y = p_e(x) · E_e(x) with e = argmax p(x), p = softmax(x W). There is no balancing term, and the kept "
            "weight is not renormalized: with k = 1 it would be the constant 1 and the router would get no task "
            "gradient.",
            "Shazeer et al. (2017) describe the same outcome: the gate settles on a few experts and reinforces itself. "
            "Here the router starts blind to the direction that all tokens share, so the first batch is even; then it "
            "learns along that direction. The next lesson asks why.",
        ),
    },
    hint="Press Train and change nothing. It takes a few seconds.",
    criteria=_watch_criteria,
    conclude=_watch_conclusion,
    intended_steps=250,
)


def _loop_criteria(history: History, config: RunConfig) -> list[Criterion]:
    share = token_share(history)
    gradient_ratio, distance_ratio = (_median_over_largest(history, name) for name in ("grad_norm", "weight_distance"))
    return [
        enough_steps(history, 200),
        Criterion("One expert takes more than 40\u00a0% of the tokens.", share > 0.4, percent(share)),
        Criterion(
            "The median expert's gradient is below 5\u00a0% of the largest.",
            gradient_ratio < 0.05,
            percent(gradient_ratio),
        ),
        Criterion(
            "The median expert's weights have moved less than half as far as the furthest expert's.",
            distance_ratio < 0.5,
            percent(distance_ratio),
        ),
    ]


def _median_over_largest(history: History, name: str) -> float:
    values = per_expert(history, name)
    return float(np.median(values) / values.max()) if values.max() > 0 else np.nan


def _loop_conclusion(history: History, config: RunConfig) -> Paragraphs:
    first, second = np.sort(history.layer().column("load")[0])[::-1][:2]
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
    start={"shared_direction": 2.5},
    look_for=(
        "Token share: which expert is ahead after the first ten steps?",
        "Gradient norm: the lines of experts without tokens end, because a log axis cannot show 0.",
        "Distance covered: idle experts stand still while busy ones move on.",
    ),
    story={
        "beginner": (
            "The textbook story: by chance one expert gets 27\u00a0% of the tokens and another 23\u00a0%. The first "
            "practises more, gets better, and is chosen more often. The others stay behind for lack of practice.",
            "The charts below fit this story. But do they prove it? The next lesson puts it to the test.",
        ),
        "practitioner": (
            "Token share → gradient → improvement → token share. Each of the four charts of this view shows one stage "
            "of the loop. An expert's gradient comes only from the tokens it is sent: without tokens it learns "
            "nothing.",
            "The charts fit the textbook's loop, but experiments say that the collapse here does not need it: with "
            "frozen experts it comes as early. A router kept blind to the direction that all tokens share never "
            "collapses, although its experts learn. Both switches are in the group Interventions.",
        ),
        "expert": (
            "For y = p_e E_e and g = ∂L/∂y, the router's gradient is ∂L/∂z_j = p_e (δ_ej − p_j) ⟨g, E_e(x)⟩: as soon "
            "as the chosen expert helps, ⟨g, E_e⟩ < 0, descent raises z_e and lowers every other logit.",
            "Experts that were not chosen do not appear in that formula (Shazeer et al. 2017). And all tokens share a "
            "direction m: a step along m raises z_e for all of them, so the loop runs through the router. Ten seeds: "
            "half of the tokens at steps 35 to 78, with frozen experts at 36 to 64, with the router blind to m never. "
            "Learning is a second, slower loop. So it is in this model and this task.",
        ),
    },
    hint="Press Train, change nothing, and keep the view Feedback loop open.",
    criteria=_loop_criteria,
    conclude=_loop_conclusion,
    intended_steps=200,
)


def _rescue_criteria(history: History, config: RunConfig) -> list[Criterion]:
    rescue = first_move(history, "aux_loss_coef")
    at = rescue.step if rescue is not None else len(history)
    left_alone = history.initial_config.aux_loss_coef == 0 and at >= LEFT_ALONE
    share = token_share(history, at)
    even_by = None if rescue is None else first_even_stretch(history, at, 2 / config.num_experts)
    return [
        Criterion(
            f"At α = 0 for at least {LEFT_ALONE} steps, one expert takes more than half of the tokens.",
            left_alone and share > 0.5,
            f"{percent(share)} at step {at}",
        ),
        Criterion(
            "Then α is raised.", left_alone and rescue is not None, "not yet" if rescue is None else f"at step {at}"
        ),
        Criterion(
            "Then, for 20 steps in a row, no expert is dead and none is above twice its even share.",
            left_alone and even_by is not None,
            f"{number(dead(history), 0)} dead now" if even_by is None else f"by step {even_by}",
        ),
    ]


def _rescue_conclusion(history: History, config: RunConfig) -> Paragraphs:
    rescue = first_move(history, "aux_loss_coef")
    at = 0 if rescue is None else rescue.step
    even_by = first_even_stretch(history, at, 2 / config.num_experts)
    took = "All experts came back" if even_by is None else f"All experts came back within {even_by - at} steps"
    return (
        f"{took}. The busiest had {percent(token_share(history, at))} of the tokens and has "
        f"{percent(token_share(history))} now; task loss was {number(mean(history, 'task_loss', at))} and is "
        f"{number(mean(history, 'task_loss'))}.",
        "Keep training for a while. After a rescue an expert may go dead once more before it finds its tokens, and "
        "specialization keeps growing long after the load is even.",
    )


RESCUE = Lesson(
    slug="first-rescue",
    title="The first α",
    goal=f"Leave the router alone for at least {LEFT_ALONE} steps, then bring all eight experts back: for 20 steps in "
    f"a row none is dead and none has more than 25\u00a0% of the tokens.",
    tab="why",
    knobs=("aux_loss_coef",),
    look_for=(
        "The marker on the time axes where you changed α.",
        "The routing map breaks from one colour into territories.",
        "Load f and importance P: the busiest expert's P is pushed down first, and its f follows.",
        "Task loss may pause for a moment: the experts that come back know nothing yet.",
    ),
    story={
        "beginner": (
            "α is the weight of a second goal: besides doing the task well, spread the work. At 0 that goal counts for "
            "nothing.",
            "Wait until one expert has nearly everything, then set α to 0.1. You can do that while it trains.",
        ),
        "practitioner": (
            "For each expert, the load-balancing loss multiplies its share of the tokens by the mean probability that "
            "the router gives it. The loss is the sum of these products times E. The busier an expert, the harder its "
            "probability is pushed down.",
            "A router that has collapsed can be rescued while its logits are still small: with a usual α the first "
            "experts come back within about 30 steps.",
        ),
        "expert": (
            "L = E · Σ fᵢ Pᵢ (Fedus et al. 2021). f comes from an argmax, so the gradient treats it as a constant. For "
            "one token ∂L/∂z_j = (E/T) p_j (f_j − Σ fᵢ pᵢ), which is negative for every expert whose load is below "
            "that token's Σ fᵢ pᵢ.",
            "1 is the value at balance, but neither a floor nor a proof: f = (0.6, 0.4) with P = (0.31, 0.69) gives "
            "0.924, and with a nearly uniform P the loss is near 1 however lopsided f is. Judge by the load.",
        ),
    },
    hint="Train to about step 100, then set Load-balancing coefficient α to 0.1 without a reset.",
    criteria=_rescue_criteria,
    conclude=_rescue_conclusion,
    intended=(Event(100, {"aux_loss_coef": 0.1}),),
    intended_steps=200,
)
