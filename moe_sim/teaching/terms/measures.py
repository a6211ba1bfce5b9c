"""Terms for what is measured of a router."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term, other_names

TERMS = (
    Term(
        "load", ("f", "f_i", "utilization", "expert utilization", "token share"), "beginner",
        "The share of the work that an expert is sent.",
        by_level(
            "Count how many tokens go to each expert, and divide by all of them. With eight experts an even share is "
            "12.5\u00a0%.",
            "f_i is the number of (token, choice) pairs sent to expert i over T·K. It sums to 1 and is 1/E at balance, "
            "whatever k is.",
            "Counted before capacity drops anything: it is what was asked for, not what was computed. It comes from an "
            "argmax, so it carries no gradient.",
        ),
        formula="f_i = pairs sent to i / (T·K)", see=("importance", "imbalance ratio", "convention"),
    ),
    Term(
        "importance", ("P", "P_i", "mean router probability"), "practitioner",
        "How much the router likes an expert on average: the mean of its probability over the tokens.",
        by_level(
            "Load is where tokens went; importance is how strongly the router wanted each expert.",
            "P_i is the mean of p_i over the batch. It is smooth, so it carries the gradient of the balancing loss.",
            "P can be nearly uniform while the load is not: the argmax makes a whole token out of a tiny lead. Judging "
            "balance by P alone is how a penalty on it gets gamed.",
        ),
        formula="P_i = mean over tokens of p_i", see=("load", "importance loss", "softmax"),
    ),
    Term(
        "imbalance ratio", ("max/min", "max / min"), "beginner",
        "The load of the busiest expert over that of the idlest; 1 is even, ∞ means somebody got nothing.",
        by_level(
            "How many times as much the busiest expert does as the idlest. Up to about 2 is healthy.",
            "max f / min f. It reacts to the idlest expert most of all, and is ∞ as soon as one expert got nothing in "
            "the step.",
            "It says nothing about how many experts are concerned: one starved expert of 64 gives ∞. Read it beside "
            "MaxVio, which looks at the busiest one only.",
        ),
        formula="max f / min f", elsewhere=other_names("imbalance ratio"), see=("load", "MaxVio", "dead expert"),
    ),
    Term(
        "MaxVio", ("max violation", "maximal violation", "overload factor", "load imbalance"), "expert",
        "How far the busiest expert is above its even share; 0 is even.",
        by_level(
            "0 means that nobody has more than an even share, 1 that the busiest expert has twice as much.",
            "max f · E − 1. With everything on one of eight experts it is 7.",
            "It bounds the step time under expert parallelism: time in balanced steps is MaxVio + 1. What other tools "
            "report is often this plus one.",
        ),
        formula="E · max f − 1",
        elsewhere=f"{other_names('max violation')}. Plus one: {other_names('max / mean')}",
        see=("imbalance ratio", "efficiency"),
    ),
    Term(
        "load CV", ("coefficient of variation", "CV"), "expert",
        "The standard deviation of the experts' loads over their mean; 0 is even.",
        by_level(
            "One number for how different the loads are from each other, all experts together.",
            "Population standard deviation of f over its mean. With everything on one of E experts it is √(E − 1).",
            "Tools that take the sample standard deviation report √(E / (E − 1)) times as much; for E = 8 that is "
            "7\u00a0% more. The importance and load losses are squares of a CV.",
        ),
        formula="std f / mean f",
        elsewhere=f"{other_names('load CV')}; times √(E / (E − 1)) in {other_names('load CV, sample')}",
        see=("load entropy", "importance loss"),
    ),
    Term(
        "load entropy", ("normalized load entropy",), "expert",
        "How evenly the load is spread, from 0 (one expert takes all) to 1 (all alike).",
        by_level(
            "1 means that the work is spread evenly, 0 that one expert does everything.",
            "The entropy of f over ln E. It moves little while one of many experts starves.",
            "exp(entropy) is an effective number of experts: half of the experts sharing the load evenly give "
            "1 − ln 2 / ln E, still 0.67 for E = 8. It flatters.",
        ),
        formula="−Σ f ln f / ln E", elsewhere=other_names("load entropy"), see=("load CV", "router entropy"),
    ),
    Term(
        "router entropy", (), "practitioner",
        "How undecided the router is about a single token, from 0 (certain) to 1 (no preference).",
        by_level(
            "Near 1 the router hardly tells tokens apart; near 0 it is certain of each choice.",
            "The mean over tokens of the entropy of p, over ln E. High with an even load is the sign of too large "
            "an α.",
            "Not to be confused with load entropy, which is about the sum over tokens. Even load with certain choices "
            "is the state to aim at: low router entropy, high load entropy.",
        ),
        formula="mean over tokens of −Σ p ln p / ln E", see=("load entropy", "over-balanced"),
    ),
    Term(
        "specialization", ("mutual information",), "practitioner",
        "How much the chosen expert tells about what kind of token it is, from 0 (nothing) to 1.",
        by_level(
            "High when each topic has experts of its own, zero when one expert takes everything or all experts take "
            "everything alike.",
            "Mutual information between a token's topic or domain and its first-choice expert, over the entropy of "
            "the topics.",
            "Bounded by ln E over the topics' entropy, so eight experts cannot reach 1 on twelve even topics. Computed "
            "from smoothed joint frequencies of group and first choice.",
        ),
        formula="I(group; expert) / H(group)", see=("router entropy", "over-balanced", "topic"),
    ),
    Term(
        "smoothed", ("exponential moving average", "smoothing"), "practitioner",
        "Averaged over about the last 20 steps, newer steps counting more.",
        by_level(
            "A single step is noisy, so some curves show a running average.",
            "An exponential moving average with a horizon of 20 steps. After a knob was moved it takes about that long "
            "to speak of the new state.",
            "Bias-corrected: the first step counts fully, as in pandas' ewm(alpha=1/20, adjust=True). A smoothed load "
            "never falls quite to 0.",
        ),
        formula="weight of a step = (1 − 1/20)^age", see=("dead expert", "load"),
    ),
    Term(
        "routing variance", ("routing std",), "expert",
        "How much an expert's load changes from one batch to the next.",
        by_level(
            "If an expert gets 5\u00a0% now and 25\u00a0% in the next step, routing is restless.",
            "The standard deviation of each expert's load over the last 20 batches. Some of it is chance, because a "
            "batch is finite.",
            "By lot alone it would be √(q(1 − q) / (T·K)) with q = 1/E. Well above: routing is pushed back and forth. "
            "Well below with one expert taking all: nothing varies any more.",
        ),
        see=("batch", "load", "smoothed"),
    ),
    Term(
        "co-activation", ("coactivation",), "expert",
        "Which experts are chosen together for the same token.",
        by_level(
            "With top-2 or more, each token has a team of experts. Co-activation shows which teams form.",
            "Of the tokens of one expert, the share that another has too. By chance it would be (k − 1) / (E − 1).",
            "Dark blocks are teams that always work together and might as well be one expert; one dark column is an "
            "expert that comes with everything. With k = 1 there is nothing to see.",
        ),
        see=("top-k", "specialization"),
    ),
)  # fmt: skip
"""In the order in which one would learn them."""
