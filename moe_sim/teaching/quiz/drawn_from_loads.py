"""Questions about the loads of real runs."""

from __future__ import annotations

import random

import numpy as np

from moe_sim import metrics
from moe_sim.history.series import step_time
from moe_sim.teaching.quiz.question import Option, Question, Sheet
from moe_sim.teaching.quiz.runs import EXCESSIVE, HEALTHY, LOPSIDED, SINKHORN, STEPS, TOP_2_OF_4, WEAK, Run, run
from moe_sim.teaching.quiz.wording import bars, listed, percent, sheet_of

CLEARLY = 1.25
"""Loads within this factor of the threshold make no question."""


def _token_shares(trained: Run) -> np.ndarray:
    """Each expert's share of the tokens: the load times k."""
    return np.array(trained.load) * trained.config.top_k


def _panel(trained: Run, explanation: str) -> Option:
    config, shares = trained.config, _token_shares(trained)
    text = f"{config.num_experts} experts, top-{config.top_k}: {listed(100 * shares)}\u00a0%"
    even = config.top_k / config.num_experts
    return Option(text, explanation, bars(shares, "share of the tokens, %", even))


def which_is_collapsed(rng: random.Random, seed: int) -> Sheet | None:
    """Four routers, one of them diagnosed as collapsed."""
    lopsided, uneven, even, pairs = (run(seed, changes) for changes in (LOPSIDED, HEALTHY, EXCESSIVE, TOP_2_OF_4))
    if [trained.state for trained in (lopsided, uneven, even, pairs)].count("Collapsed") != 1:
        return None
    ratio = metrics.imbalance_ratio(uneven.load)
    if lopsided.state != "Collapsed" or ratio < 1.3 or even.state != "Over-balanced":
        return None
    dead = metrics.dead_experts(lopsided.load)
    return Sheet(
        f"Four routers after {STEPS} steps. The bars show each expert's share of the tokens; the dotted line is the "
        "even share. Which router has collapsed?",
        _panel(
            lopsided,
            f"Yes. One expert sees {percent(_token_shares(lopsided).max())} of the tokens, and {dead} of "
            f"{lopsided.config.num_experts} experts are dead.",
        ),
        (
            _panel(
                uneven,
                f"No. The busiest expert has {ratio:.1f} times as much as the idlest, and all experts work. A ratio of "
                "up to about 4 is healthy.",
            ),
            _panel(
                even,
                f"No, the opposite. With α = {even.config.aux_loss_coef:g} the load is very even, but router entropy "
                f"is {even.router_entropy:.2f} out of 1: the router hardly tells tokens apart.",
            ),
            _panel(
                pairs,
                "No. With top-2 of four experts each expert sees half of the tokens at balance. Judge by the share of "
                f"the choices: the largest is {percent(max(pairs.load))}, and an even share is 25\u00a0%.",
            ),
        ),
    )


def how_many_are_dead(rng: random.Random, seed: int) -> Sheet | None:
    """The number of dead experts in a run whose α is too small."""
    trained = run(seed, WEAK)
    load = np.array(trained.load)
    line = 0.1 / len(load)
    dead = int(metrics.dead_experts(load))
    if not dead or ((load > line / CLEARLY) & (load < line * CLEARLY)).any():
        return None
    below = {limit: int((load < limit).sum()) for limit in (0.1, 0.5 / len(load), 1 / len(load))}
    return sheet_of(
        f"A run with α = {trained.config.aux_loss_coef:g} after {STEPS} steps. The smoothed loads of its {len(load)} "
        f"experts are {listed(100 * load, 1)}\u00a0%. How many experts are dead?",
        (str(dead), f"Dead means less than a tenth of the even share: below {percent(line, 2)} here."),
        (
            (str(below[0.1]), "That counts loads below 10\u00a0%. The threshold is a tenth of the even share, 0.1/E."),
            (str(below[1 / len(load)]), "That counts all experts below the even share. Below average is not dead."),
            (str(below[0.5 / len(load)]), "That counts all experts below the healthy band, half of the even share."),
            (str(dead + 1), f"One of these has more than {percent(line, 2)}, a tenth of the even share."),
            (
                str(dead - 1),
                f"One more is below {percent(line, 2)}. An expert with almost no tokens counts as dead too.",
            ),
        ),
        bars(load, "smoothed load, %", 1 / len(load)),
    )


def how_long_is_a_step(rng: random.Random, seed: int) -> Sheet | None:
    """The modelled step time of a run, from the computed shares."""
    trained = run(seed, rng.choice((WEAK, HEALTHY)))
    shares = np.round(trained.processed, 3)
    time, count = float(step_time(shares)), len(shares)
    ratio = shares.max() / shares.min() if shares.min() > 0 else np.inf
    return sheet_of(
        f"Each of {count} experts has its own device and computes {listed(100 * shares, 1)}\u00a0% of the token "
        "choices, respectively. How long does a step take if a balanced step takes 1?",
        (f"{time:.2f}", f"The busiest device decides: {count} × {shares.max():.3f} = {time:.2f}."),
        (
            ("1.00", "The total work is the same, but a step ends only when the busiest device is done."),
            (f"{1 / time:.2f}", "That is the efficiency, the share of the time that the devices work."),
            ("∞" if np.isinf(ratio) else f"{ratio:.2f}", "That is max/min. The idlest device delays no other."),
        ),
        bars(shares, "computed share, %", 1 / count),
    )


def what_does_inference_bring(rng: random.Random, seed: int) -> Sheet | None:
    """Sinkhorn balances the selection, not the router."""
    trained = run(seed, SINKHORN)
    training, inference, count = max(trained.load), max(trained.inference_load), len(trained.load)
    if inference < 1.6 * training or training < 1.2 / count:
        return None
    return sheet_of(
        f"This router was trained for {STEPS} steps with Sinkhorn selection. In training its busiest expert takes "
        f"{percent(training)} of the tokens. Now tokens arrive one at a time, so each goes to the router's own first "
        "choice. What share does the busiest expert take now?",
        (
            percent(inference),
            "Measured on held-out tokens. The selection was balanced, but the router was not: by itself it prefers one "
            "expert.",
        ),
        (
            (
                percent(training),
                "That would need a balanced router. Sinkhorn compares the tokens of a batch, and a token that comes "
                "alone has no batch.",
            ),
            (percent(1 / count, 1), "That is the even share. Nothing makes the router's own choice even."),
        ),
        bars(trained.load, "smoothed load in training, %", 1 / count),
    )


QUESTIONS = (
    Question("which-is-collapsed", "beginner", ("collapse", "top-k", "healthy band"), which_is_collapsed),
    Question("how-many-are-dead", "beginner", ("dead expert", "load"), how_many_are_dead),
    Question("how-long-is-a-step", "practitioner", ("step time", "expert parallelism"), how_long_is_a_step),
    Question("what-does-inference-bring", "expert", ("inference", "Sinkhorn"), what_does_inference_bring),
)
