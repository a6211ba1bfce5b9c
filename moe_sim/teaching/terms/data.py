"""Terms for the two tasks and their data."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term

TERMS = (
    Term(
        "topic", (), "beginner",
        "The kind of a token: in the Topics task each token belongs to one of twelve topics.",
        by_level(
            "Tokens of one topic look alike and follow the same rule. A good router assigns topics to experts.",
            "A centre in 32 dimensions with tokens scattered around it, and a teacher network of its own for the "
            "labels.",
            "The group in the specialization metric. With twelve topics and eight experts, some experts have to take "
            "two.",
        ),
        see=("specialization", "teacher network", "topic skew"),
    ),
    Term(
        "tokens per sequence", ("sequence_tokens", "sequence"), "expert",
        "How many tokens in a row share a topic.",
        by_level(
            "In a text, neighbouring words are about the same thing. At 1 every token is drawn by itself.",
            "At 16, a batch of 256 tokens has 16 sequences, each of one topic. The language task has sequences of 64 "
            "characters by nature.",
            "Sequences make batches lumpier: 16 draws of a topic instead of 256. The load varies more from step to "
            "step, and what a loss per sequence asks for becomes another thing.",
        ),
        see=("topic", "balance scope"),
    ),
    Term(
        "topic skew", ("Zipf", "Zipf's law", "topic_skew"), "practitioner",
        "How much more frequent common topics are than rare ones.",
        by_level(
            "At 0 all topics are equally frequent; the larger the skew, the more the first few dominate.",
            "Frequencies follow Zipf's law: the r-th topic has weight r^−skew. The default is 0.5.",
            "With skewed topics, an even load and one expert per topic exclude each other: the common topic has to be "
            "shared. That is one reason why a little imbalance can be right.",
        ),
        formula="share of rank r ∝ r^−skew", see=("topic", "healthy band", "distribution shift"),
    ),
    Term(
        "topic rotation", ("topic order", "topic_shift", "domain mix", "domain_mix"), "expert",
        "Which topics or domains are common; changing it shifts the data.",
        by_level(
            "Change it, and topics that were rare become common.",
            "In Topics, the number of places by which the frequency ranking is rotated; in Text, the shares of the "
            "four domains.",
            "Both act live, even on a frozen run. That makes a clean experiment: the same weights, different data.",
        ),
        see=("distribution shift", "topic skew", "freeze"),
    ),
    Term(
        "shared direction", ("anisotropy", "shared_direction"), "expert",
        "One direction that all tokens have in common; it causes the collapse here.",
        by_level(
            "All tokens are alike in one respect. A router that reacts to it prefers the same expert for all of them.",
            "A vector added to every token; hidden states of real models have such a component too. At length 0 "
            "nothing collapses.",
            "An update for one token along this direction raises the same expert's logit for all tokens. It makes the "
            "router collapse: a step along it changes the logits of all tokens at once. Without it the largest load at "
            "α = 0 is 0.26 on average.",
        ),
        see=("collapse", "feedback loop", "topic"),
    ),
    Term(
        "teacher network", ("teacher",), "expert",
        "A fixed random network that generates the labels of a topic.",
        by_level(
            "It is the secret rule behind a topic, which the experts try to learn.",
            "Each topic has its own; the label is the index of the largest of its 16 outputs. Predicting it takes "
            "knowing the topic and computing a function of the token.",
            "argmax of W2·tanh(W1·ε) with ε the token's deviation from its centre. Different rules for different "
            "topics make experts worth having.",
        ),
        formula="label = argmax W2 · tanh(W1 · ε)", see=("topic", "task loss"),
    ),
    Term(
        "routing map", (), "beginner",
        "The chart in which each dot is a held-out token, coloured by the expert that gets it.",
        by_level(
            "One colour everywhere is collapse; patches of colour are experts with territories.",
            "About 400 held-out tokens, grouped by topic. Hollow dots are tokens that no expert takes.",
            "Topic and token fix the position, so only colours change during training: every change on the map comes "
            "from the router.",
        ),
        see=("topic", "collapse", "dropped token"),
    ),
)  # fmt: skip
"""In learning order."""
