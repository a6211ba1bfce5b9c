"""Terms for capacity and for what does not fit."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term

TERMS = (
    Term(
        "capacity", ("expert capacity", "C", "capacity limit"), "beginner",
        "The most token choices that one expert takes in a step.",
        by_level(
            "Each expert has a fixed number of seats. When they are taken, the others have to go elsewhere or nowhere.",
            "C = ⌈factor · T · K / E⌉. It bounds memory and the time of the slowest expert. Off means that there is "
            "no limit.",
            "A hard cap beside the soft push of α. With α too weak the cap does the balancing, by throwing tokens "
            "away. This form, with the ceiling, is Megatron-LM's; DeepSpeed has a floor of 4, Tutel and OLMo-core "
            "round otherwise.",
        ),
        formula="C = ⌈factor · T · K / E⌉", see=("capacity factor", "overflow", "dropped token"),
    ),
    Term(
        "capacity factor", ("capacity_factor",), "beginner",
        "How many times its even share an expert may take; 1 leaves no slack.",
        by_level(
            "1 means just enough seats if everything were perfectly even, 2 means twice as many.",
            "Even a well-balanced router drops some tokens at 1, since a batch is never exactly even. On the Topics "
            "task with α = 0.03 it drops 18\u00a0% of the tokens there, with α = 0 two thirds.",
            "Under expert parallelism it bounds a step to factor times the balanced one, up to rounding. Choose it "
            "from the measured MaxVio: a factor of MaxVio + 1 drops nothing.",
        ),
        see=("capacity", "MaxVio", "dropped token"),
    ),
    Term(
        "overflow", (), "practitioner",
        "The token choices that find their expert full.",
        by_level(
            "More tokens want an expert than it has seats for: the rest overflows.",
            "Overflow is dropped or rerouted, as you set. Load is counted before it, so overflow shows as the "
            "difference between what was asked for and what was computed.",
            "The drop order decides who overflows: by position or by probability.",
        ),
        see=("capacity", "dropped token", "reroute", "drop order"),
    ),
    Term(
        "reroute", ("rerouted", "rerouting"), "expert",
        "Send overflow to the token's next-best expert that has room, instead of dropping it.",
        by_level(
            "The first restaurant is full, so the token goes to the next one on its list.",
            "One pair after the other, in the order of seating, goes to the best expert with a free seat that does not "
            "serve the token yet.",
            "With a factor of at least 1 and k = 1 every token finds a seat. f still counts the first wish, so the "
            "balancing loss keeps seeing the imbalance, and the weight is the new expert's own probability.",
        ),
        see=("overflow", "dropped token", "drop order"),
    ),
    Term(
        "dropped token", ("dropped", "dropped fraction", "dropping tokens"), "beginner",
        "A token choice that no expert computes, because its expert is full.",
        by_level(
            "The token is not lost: it passes on unchanged. It only misses what the expert would have added.",
            "The dropped fraction is choices over capacity divided by T·K. With k of 2 or more, a token can lose one "
            "choice and keep another.",
            "Dropped pairs give their expert no gradient and shrink the layer's output. On the Topics task a capacity "
            "factor of 1 at α = 0 drops 66\u00a0% and ends at a task loss of 2.566.",
        ),
        see=("residual path", "capacity factor", "unserved token"),
    ),
    Term(
        "unserved token", ("unserved",), "expert",
        "A token that no expert computes at all.",
        by_level(
            "Either all of its experts were full, or, where experts choose, none chose it.",
            "For k = 1 under a limit it is the same as dropped; for larger k it is rarer.",
            "The number to watch under expert choice, where nothing is ever dropped and tokens are left out all the "
            "same.",
        ),
        see=("dropped token", "expert choice", "residual path"),
    ),
    Term(
        "drop order", ("drop_order", "by position"), "expert",
        "Who is left out when an expert is full: the later tokens, or those with the lowest weight.",
        by_level(
            "First come, first served, or the most convinced first.",
            "position: later tokens go first, and all second choices before any first choice. probability: the pairs "
            "with the lowest combine weight go first.",
            "By position the loss falls on whoever stands at the end of the batch, whatever the token needs. By "
            "probability it falls where it costs least, but it needs the whole batch to decide.",
        ),
        see=("overflow", "batch-priority routing", "combine weight"),
    ),
    Term(
        "batch-priority routing", ("batch priority",), "expert",
        "V-MoE's name for seating the token choices of highest probability first.",
        by_level(
            "Those who want their expert most get its seats.",
            "The drop order `probability` here. It makes small capacity factors bearable.",
            "From V-MoE (Riquelme et al. 2021). Like every rule that compares tokens it depends on who else is in the "
            "batch.",
        ),
        see=("drop order", "capacity factor"),
    ),
)  # fmt: skip
"""In the order in which one would learn them."""
