"""Terms for the two tasks and their data."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term

TERMS = (
    Term(
        "topic", (), "beginner",
        "The kind of token: in the Topics task each token belongs to one of twelve topics.",
        by_level(
            "Tokens of one topic look alike and follow the same rule. A good router gives topics to experts.",
            "A centre in 32 dimensions with tokens scattered around it, and a teacher network of its own for the "
            "labels.",
            "The group in the specialization measure. Twelve topics on eight experts: some experts have to take two.",
        ),
        see=("specialization", "teacher network", "topic skew"),
    ),
    Term(
        "topic skew", ("Zipf", "Zipf's law", "topic_skew"), "practitioner",
        "How much more frequent the common topics are than the rare ones.",
        by_level(
            "At 0 all topics are equally frequent; the larger, the more the first few dominate.",
            "Frequencies follow Zipf's law: the r-th topic has a weight of r to the power of minus the skew. 0.5 here.",
            "With a skewed mix even load and topical experts exclude each other: the common topic has to be shared "
            "out. That is one reason why a little imbalance can be right.",
        ),
        formula="share of rank r ∝ r^−skew", see=("topic", "healthy band", "distribution shift"),
    ),
    Term(
        "topic order", ("topic_shift", "domain mix", "domain_mix"), "expert",
        "Which topics or domains are the common ones; changing it shifts the data.",
        by_level(
            "Turn it, and topics that were rare become common.",
            "For Topics by how many places the order by frequency is turned, for Text the shares of the four domains.",
            "Both act live, on a frozen run too. That makes the clean experiment: the same weights, other data.",
        ),
        see=("distribution shift", "topic skew", "freeze"),
    ),
    Term(
        "shared direction", ("anisotropy", "shared_direction"), "expert",
        "One direction that all tokens have in common; it is the lever of collapse here.",
        by_level(
            "All tokens resemble each other in one respect. A router that reacts to it prefers the same expert for "
            "all.",
            "A vector added to every token, as the hidden states of real models have one. At length 0 nothing "
            "collapses.",
            "An update for one token along it raises the same expert's logit for all tokens. It makes the first "
            "routing lopsided and couples the topics; without it the largest load at α = 0 is 0.32 on average.",
        ),
        see=("collapse", "feedback loop", "topic"),
    ),
    Term(
        "teacher network", ("teacher",), "expert",
        "A fixed random network that makes the labels of a topic.",
        by_level(
            "It is the secret rule behind a topic. The experts try to find it out.",
            "Each topic has its own; the label is the largest of its 16 outputs. To predict it one has to know the "
            "topic and compute a function of the token.",
            "argmax of W2·tanh(W1·ε) with ε the token's deviation from its centre. Different rules for different "
            "topics are what makes experts worth having.",
        ),
        formula="label = argmax W2 · tanh(W1 · ε)", see=("topic", "task loss"),
    ),
    Term(
        "routing map", (), "beginner",
        "The picture with a dot for every held-out token, in the colour of the expert that takes it.",
        by_level(
            "One colour everywhere is collapse; patches of colour are experts with territories.",
            "Some 400 held-out tokens, each beside its topic. Hollow dots are tokens that no expert takes.",
            "Positions are fixed by topic and token, so that only colours change while training: what moves on the "
            "map is the router.",
        ),
        see=("topic", "collapse", "dropped token"),
    ),
)  # fmt: skip
"""In the order in which one would learn them."""
