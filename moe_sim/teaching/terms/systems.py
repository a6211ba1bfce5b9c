"""Terms for what routing means to machines."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term, other_names

TERMS = (
    Term(
        "expert parallelism", ("expert-parallel",), "practitioner",
        "Each expert lives on a device of its own, and tokens travel to it.",
        by_level(
            "Large models put experts on different machines. Everyone then waits for the machine with the most to do.",
            "A step takes as long as its most loaded expert. Imbalance costs time even where it does not cost quality.",
            "The model used here counts choices per device and nothing else: no communication, no fixed costs. It is "
            "the part of the time that balance can change.",
        ),
        see=("efficiency", "step time", "capacity"),
    ),
    Term(
        "efficiency", ("expert-parallel efficiency", "parallel efficiency"), "practitioner",
        "The share of the devices' time that is spent working rather than waiting for the busiest one.",
        by_level(
            "1 means that nobody waits. With one expert doing everything on eight devices it is one eighth.",
            "Mean load over largest load, with one expert per device.",
            "1/(MaxVio + 1), of the load that was asked for. With a capacity factor a step never takes longer than "
            "about factor times the balanced one; dropped tokens are the price.",
        ),
        formula="1 / (E · max f)", elsewhere=other_names("expert-parallel efficiency"),
        see=("expert parallelism", "MaxVio", "step time"),
    ),
    Term(
        "step time", ("modelled step time", "modelled time"), "expert",
        "How long a step would take with one expert per device, in units of a balanced step.",
        by_level(
            "2 means that a step takes twice as long as it would with the work spread evenly.",
            "The largest share of pairs that one expert computes, times E. Dropped pairs cost no time.",
            "E · max of the processed shares: after capacity, unlike MaxVio, which counts what was asked for.",
        ),
        formula="E · max processed share", see=("efficiency", "MaxVio"),
    ),
    Term(
        "batch", ("batch size",), "beginner",
        "The tokens that are processed together in one step.",
        by_level(
            "The network looks at a few hundred tokens, learns a little, and takes the next ones.",
            "f and P are taken over one batch. A small batch makes a noisy f, and with it a noisy push.",
            "The balancing loss balances batches, not the data set: if a batch holds one kind of text only, even load "
            "within it works against specialization.",
        ),
        see=("token", "step", "routing variance"),
    ),
    Term(
        "step", ("training step",), "beginner",
        "One round of training: look at a batch, compare, correct all weights a little.",
        by_level(
            "Every step makes the network a tiny bit better on what it has just seen. A few hundred suffice to see "
            "a router collapse.",
            "Forward through router and experts, loss, gradients, one update by Adam.",
            "Settings that act live are read at the start of a step, so a step belongs to one configuration.",
        ),
        see=("batch", "Adam", "seed"),
    ),
)  # fmt: skip
"""In the order in which one would learn them."""
