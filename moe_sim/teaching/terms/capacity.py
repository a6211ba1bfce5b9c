"""Terms for expert capacity and overflow."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term

TERMS = (
    Term(
        "capacity", ("expert capacity", "C", "capacity limit"), "beginner",
        "The maximum number of token choices that one expert takes in a step.",
        by_level(
            "Each expert has a fixed number of seats. Once they are taken, further tokens go to another expert or to "
            "none.",
            "C = ⌈factor · T · K / E⌉. It bounds memory and the time of the slowest expert. Off means no limit.",
            "A hard limit, where α is a soft push. Most models of today have none: Mixtral, OLMoE and DeepSeek-V3 are "
            "dropless. The formula with the ceiling is Megatron-LM's; DeepSpeed has a floor of 4, and Tutel and "
            "OLMo-core round differently.",
        ),
        formula="C = ⌈factor · T · K / E⌉", see=("capacity factor", "overflow", "dropped token"),
    ),
    Term(
        "capacity factor", ("capacity_factor",), "beginner",
        "An expert's capacity as a multiple of its even share; 1 leaves no slack.",
        by_level(
            "1 means just enough seats for perfectly even routing, 2 means twice as many.",
            "Even a well-balanced router drops some tokens at 1, since a batch is never exactly even. On the Topics "
            "task a factor of 1 drops 17\u00a0% of the tokens with α = 0.03, and two thirds with α = 0.",
            "Under expert parallelism it bounds the step time to factor times that of a balanced step, up to rounding. "
            "Choose it from the measured MaxVio: a factor of MaxVio + 1 drops nothing.",
        ),
        see=("capacity", "MaxVio", "dropped token"),
    ),
    Term(
        "capacity in evaluation", ("eval_capacity_factor", "capacity factor in evaluation"), "expert",
        "A capacity limit that also holds when held-out tokens are evaluated, which it need not.",
        by_level(
            "If seats are limited in the exam too, the model is marked down for questions that it never saw.",
            "Beside the evaluation without a limit, the held-out tokens are evaluated in batches of 256 with one: as "
            "they come, and sorted by topic or domain.",
            "Mixed batches hide the cost. In sorted ones all tokens want the same few experts, and the limit drops "
            "most of them, however even the load is in training: so a perplexity under a limit depends on the order of "
            "the data.",
        ),
        see=("capacity factor", "dropped token", "inference"),
    ),
    Term(
        "overflow", (), "practitioner",
        "The token choices beyond their expert's capacity.",
        by_level(
            "More tokens want an expert than it has seats: the rest overflows.",
            "Overflow is dropped or rerouted, depending on a knob. Load is counted before that, so overflow shows as "
            "the difference between demand and what was computed.",
            "The drop order decides which tokens overflow: by position or by probability.",
        ),
        see=("capacity", "dropped token", "reroute", "drop order"),
    ),
    Term(
        "reroute", ("rerouted", "rerouting"), "expert",
        "Send overflow to the token's next-best expert with room, instead of dropping it.",
        by_level(
            "The first restaurant is full, so the token goes to the next one on its list.",
            "In drop order, each (token, choice) pair goes to the best expert that has a free seat and does not serve "
            "the token yet.",
            "With a factor of at least 1 and k = 1 every token finds a seat. f still counts the original choice, so "
            "the load-balancing loss keeps seeing the imbalance. The combine weight is the new expert's own "
            "probability.",
        ),
        see=("overflow", "dropped token", "drop order"),
    ),
    Term(
        "dropped token", ("dropped", "dropped fraction", "dropping tokens"), "beginner",
        "A token choice that is not computed because its expert is full.",
        by_level(
            "The token is not lost: it passes on unchanged. It only misses the expert's contribution.",
            "The dropped fraction is the number of choices beyond capacity, divided by T·K. With k of 2 or more, a "
            "token can lose one choice and keep another.",
            "Dropped choices give their expert no gradient and shrink the layer's output. On the Topics task a "
            "capacity factor of 1 at α = 0 drops 67\u00a0% of the tokens and ends at a task loss of 2.594.",
        ),
        see=("residual path", "capacity factor", "unserved token"),
    ),
    Term(
        "unserved token", ("unserved",), "expert",
        "A token that no expert computes at all.",
        by_level(
            "Either all of its experts were full, or, under expert choice, none chose it.",
            "With a capacity limit and k = 1 it is the same as a dropped token; for larger k it is rarer.",
            "The number to watch under expert choice: even with a capacity factor of 1 or more, where nothing is "
            "dropped, tokens are left out.",
        ),
        see=("dropped token", "expert choice", "residual path"),
    ),
    Term(
        "drop order", ("drop_order", "by position"), "expert",
        "Which tokens are left out when an expert is full: the later ones, or those with the lowest weight.",
        by_level(
            "First come, first served, or highest probability first.",
            "position: later tokens go first, and all second choices before any first choice. probability: the pairs "
            "with the lowest combine weight go first. Under expert choice it is always by probability: each expert "
            "keeps its best tokens.",
            "By position the tokens at the end of the batch are dropped, whatever they need. By probability the drops "
            "fall where they cost least, but the decision needs the whole batch.",
        ),
        see=("overflow", "batch-priority routing", "combine weight"),
    ),
    Term(
        "batch-priority routing", ("batch priority",), "expert",
        "Serving the token choices of highest probability first.",
        by_level(
            "The tokens that want their expert most get its seats.",
            "Called drop order `probability` here. It makes small capacity factors workable.",
            "After V-MoE (Riquelme et al. 2021), which orders whole tokens and seats all first choices first. Like "
            "every rule that compares tokens, it depends on the rest of the batch.",
        ),
        see=("drop order", "capacity factor"),
    ),
)  # fmt: skip
"""In learning order."""
