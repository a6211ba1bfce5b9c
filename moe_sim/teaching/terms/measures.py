"""Terms for router metrics."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term, other_names

TERMS = (
    Term(
        "load", ("f", "f_i", "utilization", "expert utilization", "token share"), "beginner",
        "The share of the work that is sent to an expert.",
        by_level(
            "Count the tokens that go to each expert, and divide by the total. With eight experts an even share is "
            "12.5\u00a0%.",
            "f_i is the number of (token, choice) pairs sent to expert i over T·K. It sums to 1 and is 1/E at balance, "
            "whatever k is.",
            "Counted before capacity drops anything: it is the demand, not what was computed. It comes from an argmax, "
            "so it has no gradient.",
        ),
        formula="f_i = pairs sent to i / (T·K)", see=("importance", "imbalance ratio", "convention"),
    ),
    Term(
        "importance", ("P", "P_i", "mean router probability"), "practitioner",
        "How strongly the router prefers an expert on average: its mean probability over the tokens.",
        by_level(
            "Load is where tokens went; importance is how strongly the router wanted each expert.",
            "P_i is the mean of p_i over the batch. It is smooth, so it carries the gradient of the load-balancing "
            "loss.",
            "P can be nearly uniform while the load is not: the argmax turns a tiny lead into a whole token. That is "
            "how a penalty on P alone gets gamed.",
        ),
        formula="P_i = mean over tokens of p_i", see=("load", "importance loss", "softmax"),
    ),
    Term(
        "imbalance ratio", ("max/min", "max / min"), "beginner",
        "The load of the busiest expert over that of the idlest; 1 is even, ∞ means that an expert got nothing.",
        by_level(
            "How many times as many tokens the busiest expert gets as the idlest. Up to about 4 is healthy: twice an "
            "even share against half of one.",
            "max f / min f. It reacts most to the idlest expert, and is ∞ as soon as one expert gets nothing in a "
            "step.",
            "It does not tell how many experts are affected: one starved expert of 64 gives ∞. Read it together with "
            "MaxVio, which looks only at the busiest one.",
        ),
        formula="max f / min f", elsewhere=other_names("imbalance ratio"), see=("load", "MaxVio", "dead expert"),
    ),
    Term(
        "MaxVio", ("max violation", "maximal violation", "overload factor", "load imbalance"), "expert",
        "How far the busiest expert is above its even share; 0 is even.",
        by_level(
            "0 means that no expert has more than an even share, 1 that the busiest has twice that.",
            "max f · E − 1. With everything on one of eight experts it is 7.",
            "It bounds the step time under expert parallelism: MaxVio + 1 times that of a balanced step. Other tools "
            "often report this value plus one.",
        ),
        formula="E · max f − 1",
        elsewhere=f"{other_names('max violation')}. Plus one: {other_names('max / mean')}",
        see=("imbalance ratio", "efficiency"),
    ),
    Term(
        "load CV", ("coefficient of variation", "CV"), "expert",
        "The standard deviation of the experts' loads divided by their mean; 0 is even.",
        by_level(
            "One number for how much the loads of all experts differ.",
            "Population standard deviation of f divided by its mean. With everything on one of E experts it is √(E − "
            "1).",
            "Tools that use the sample standard deviation report √(E / (E − 1)) times as much; for E = 8 that is "
            "7\u00a0% more. The importance and load losses are squares of a CV.",
        ),
        formula="std f / mean f",
        elsewhere=f"{other_names('load CV')}; times √(E / (E − 1)) in {other_names('load CV, sample')}",
        see=("load entropy", "importance loss"),
    ),
    Term(
        "load entropy", ("normalized load entropy",), "expert",
        "How evenly the load is spread, from 0 (one expert takes all) to 1 (all equal).",
        by_level(
            "1 means that the work is spread evenly, 0 that one expert does everything.",
            "The entropy of f over ln E. It changes little when one of many experts starves.",
            "exp(entropy of f) is an effective number of experts. The measure is lenient: if half of the experts share "
            "the load evenly, it is 1 − ln 2 / ln E, still 0.67 for E = 8.",
        ),
        formula="−Σ f ln f / ln E", elsewhere=other_names("load entropy"), see=("load CV", "router entropy"),
    ),
    Term(
        "router entropy", (), "practitioner",
        "How uncertain the router is about a single token, from 0 (certain) to 1 (no preference).",
        by_level(
            "Near 1 the router hardly tells tokens apart; near 0 it is certain of each choice.",
            "The entropy of p over ln E, averaged over tokens. A high value with an even load is a sign that α is too "
            "large.",
            "Not to be confused with load entropy, which is about the sum over tokens. The goal is an even load with "
            "certain choices: low router entropy, high load entropy.",
        ),
        formula="mean over tokens of −Σ p ln p / ln E", see=("load entropy", "over-balanced"),
    ),
    Term(
        "specialization", ("mutual information",), "practitioner",
        "How well the chosen expert predicts the kind of token, from 0 (not at all) to 1.",
        by_level(
            "High if each topic has its own experts, zero if one expert takes everything or all experts take the same "
            "mixture.",
            "Mutual information between a token's topic or domain and its first-choice expert, divided by the entropy "
            "of the topics.",
            "Bounded by ln E over the topics' entropy, so eight experts cannot reach 1 on twelve equally frequent "
            "topics. What experts divide the work by differs: Mixtral's follow syntax more than topic (Jiang et al. "
            "2024), many of OLMoE's belong to a domain such as arXiv or GitHub (Muennighoff et al. 2024).",
        ),
        formula="I(group; expert) / H(group)", see=("router entropy", "over-balanced", "topic"),
    ),
    Term(
        "smoothed", ("exponential moving average", "smoothing"), "practitioner",
        "Averaged over about the last 20 steps, with more weight on newer ones.",
        by_level(
            "A single step is noisy, so some curves show a running average.",
            "An exponential moving average with a horizon of 20 steps. After a change it takes about that long to "
            "reflect the new state.",
            "Bias-corrected: the first step counts fully, as in pandas' ewm(alpha=1/20, adjust=True). A smoothed load "
            "that was ever above 0 never falls quite to 0.",
        ),
        formula="weight of a step = (1 − 1/20)^age", see=("dead expert", "load"),
    ),
    Term(
        "routing variance", ("routing std",), "expert",
        "How much an expert's load changes from one batch to the next.",
        by_level(
            "If an expert gets 5\u00a0% now and 25\u00a0% in the next step, routing is unstable.",
            "The standard deviation of each expert's load over the last 20 batches. Some of it is sampling noise, "
            "because a batch is finite.",
            "By chance alone it would be √(q(1 − q) / (T·K)) with q = 1/E. Well above that, routing swings back and "
            "forth. Well below it with one expert taking all, nothing varies any more.",
        ),
        see=("batch", "load", "smoothed"),
    ),
    Term(
        "co-activation", ("coactivation",), "expert",
        "Which experts are chosen together for the same token.",
        by_level(
            "With top-2 or more, each token has a team of experts. Co-activation shows which teams form.",
            "The share of one expert's tokens that another expert gets too. By chance it would be (k − 1) / (E − 1).",
            "Strong blocks are teams that always work together and might as well be one expert. A single filled column "
            "is an expert that joins every team. With k = 1 there is nothing to see.",
        ),
        see=("top-k", "specialization"),
    ),
)  # fmt: skip
"""In learning order."""
