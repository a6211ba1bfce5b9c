"""Terms for devices, batches and steps."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term, other_names

TERMS = (
    Term(
        "expert parallelism", ("expert-parallel",), "practitioner",
        "Each expert has its own device, and tokens are sent to it.",
        by_level(
            "Large models put experts on different machines. All of them then wait for the busiest one.",
            "A step takes as long as its most loaded expert. Imbalance costs time even if it does not cost quality.",
            "The cost model here counts only choices per device, without communication or fixed costs. That is the "
            "part of the step time that balance can change.",
        ),
        see=("efficiency", "step time", "capacity"),
    ),
    Term(
        "efficiency", ("expert-parallel efficiency", "parallel efficiency"), "practitioner",
        "The share of time that devices spend working rather than waiting for the busiest one.",
        by_level(
            "1 means that no device waits. With eight devices and one expert doing everything it is one eighth.",
            "Mean load divided by largest load, with one expert per device.",
            "1/(MaxVio + 1), computed from the demand. With a capacity factor a step never takes longer than about "
            "factor times a balanced one, at the price of dropped tokens.",
        ),
        formula="1 / (E · max f)", elsewhere=other_names("expert-parallel efficiency"),
        see=("expert parallelism", "MaxVio", "step time"),
    ),
    Term(
        "step time", ("modelled step time", "modelled time"), "expert",
        "The modelled duration of a step with one expert per device, in units of a balanced step.",
        by_level(
            "2 means that a step takes twice as long as it would with the work spread evenly.",
            "The largest share of token choices that one expert computes, times E. Dropped choices cost no time.",
            "E · max of the processed shares, counted after capacity; MaxVio counts the demand instead.",
        ),
        formula="E · max processed share", see=("efficiency", "MaxVio"),
    ),
    Term(
        "batch", ("batch size",), "beginner",
        "The tokens that are processed together in one step.",
        by_level(
            "The network looks at a few hundred tokens, learns a little, and moves on to the next ones.",
            "f and P are computed per batch. A small batch gives a noisy f and so a noisy push.",
            "The load-balancing loss balances batches, not the data set: if a batch contains only one kind of text, an "
            "even load within it works against specialization. So some count f over the batches of all devices, the "
            "global batch (Qiu et al. 2025).",
        ),
        see=("token", "step", "routing variance"),
    ),
    Term(
        "step", ("training step",), "beginner",
        "One round of training: predict a batch, measure the loss, correct all weights a little.",
        by_level(
            "Each step makes the network slightly better on what it has just seen. A few hundred are enough to see a "
            "router collapse.",
            "Forward through router and experts, loss, gradients, one update by Adam.",
            "Live knobs are read at the start of a step, so each step has exactly one configuration.",
        ),
        see=("batch", "Adam", "seed"),
    ),
)  # fmt: skip
"""In learning order."""
