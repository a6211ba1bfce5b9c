"""Terms for the parts of a Mixture-of-Experts layer."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term, other_names

TERMS = (
    Term(
        "Mixture-of-Experts", ("MoE", "mixture of experts layer"), "beginner",
        "A layer made of several small networks, the experts, of which each token uses only a few.",
        by_level(
            "Instead of one big network there are several small ones and a router that decides which of them look at "
            "a token. The model can know more without doing more work for each token.",
            "E experts and a router stand in the place of one MLP. Each token is sent to K of them, and the layer's "
            "output is the sum of their outputs, each weighted by the router's probability.",
            "Parameters grow with E, arithmetic with K. The price is a discrete choice inside the network: the router "
            "gets its task gradient only through the weights of the experts that were chosen, which is why it can "
            "lock in on a few of them.",
        ),
        formula="y = Σ over the chosen i of p_i · expert_i(x)", see=("expert", "router", "collapse", "top-k"),
    ),
    Term(
        "expert", ("E",), "beginner",
        "One of the small networks in a Mixture-of-Experts layer; E is how many there are.",
        by_level(
            "A small network that handles some of the tokens. Nobody tells it what to be an expert in: that comes from "
            "the tokens that it is given.",
            "Here a two-layer MLP. An expert only learns from the tokens that it is sent, so one that gets none stays "
            "as it was at the start.",
            "Its gradient is a sum over its own tokens, scaled by their combine weights: load decides how fast an "
            "expert learns. That is one half of the loop that ends in collapse.",
        ),
        see=("router", "load", "dead expert"),
    ),
    Term(
        "router", ("gate", "gating network"), "beginner",
        "The part of the layer that decides which experts a token is sent to.",
        by_level(
            "It looks at a token, gives every expert a score, and sends the token to the experts with the best scores. "
            "It learns together with them.",
            "A linear map from the token to E logits; softmax makes probabilities of them, and the K largest win.",
            "The choice itself has no derivative. The router learns from the task through the combine weights of the "
            "chosen experts, and from the balancing loss through P.",
        ),
        formula="p = softmax(x · W_r)", see=("logits", "softmax", "top-k"),
    ),
    Term(
        "token", ("T",), "beginner",
        "One item that the network processes; T is how many there are in a batch.",
        by_level(
            "In a language model a token is a word or a piece of one. In the Text task here it is a character, in the "
            "Topics task a vector that belongs to one topic.",
            "The router decides for each token by itself. A batch here has 256 of them unless you change it.",
            "T is all tokens of a step, whatever sequence they come from. f and P are estimated from these T tokens, "
            "so a small batch makes a noisy f.",
        ),
        see=("batch", "top-k", "load"),
    ),
    Term(
        "logits", ("logit", "router logit", "z"), "practitioner",
        "The router's raw scores, one for each expert, before they are turned into probabilities.",
        by_level(
            "A score for each expert: the higher, the more the router wants that expert for this token.",
            "Only differences between logits matter for the probabilities. Large differences make a router that is "
            "certain and hard to change.",
            "Experts are selected by logits rather than by probabilities, which underflow to 0 and tie in a confident "
            "router. The z-loss keeps the logits small.",
        ),
        formula="z = x · W_r", see=("softmax", "z-loss", "saturation"),
    ),
    Term(
        "softmax", ("router probability", "p"), "practitioner",
        "The function that turns the router's scores into probabilities that sum to 1.",
        by_level(
            "It makes positive shares out of any scores: the best-scored expert gets the largest share.",
            "Each probability is e to the logit over the sum of all of these. A gap of 1 between two logits is a "
            "factor of 2.7 between their probabilities.",
            "Its derivative p_i·(δ_ij − p_j) goes to 0 as p nears 0 or 1: with a gap of 15 the small one is 3·10⁻⁷, "
            "and next to no gradient comes through.",
        ),
        formula="p_i = e^z_i / Σ_j e^z_j", see=("logits", "importance", "saturation"),
    ),
    Term(
        "top-k", ("k", "K", "top-1", "top-2", "top-4"), "beginner",
        "Each token is sent to the k experts that the router scores highest.",
        by_level(
            "With top-1 a token visits one expert, with top-2 it visits two. More experts per token cost more work and "
            "spread the tokens more evenly.",
            "With k of E experts, even load is 1/E of the choices, which is k/E of the tokens: judging one against the "
            "other makes a balanced top-2 router look collapsed.",
            "A larger k balances by itself, because no expert can get more than 1/k of the choices and the runner-up "
            "learns too. It also changes what 1 means in the loss: see the conventions.",
        ),
        elsewhere=other_names("top-k (top_k)"), see=("router", "convention", "renormalize"),
    ),
    Term(
        "argmax", (), "practitioner",
        "Picking the position of the largest value: a choice that has no gradient.",
        by_level(
            "The router's final choice takes the expert with the best score, however small its lead.",
            "A lead of a thousandth is enough to win every token. That is why a router can look undecided in its "
            "probabilities and still send everything to one expert.",
            "p = (0.251, 0.2497, 0.2497, 0.2497) has almost no variance, and its argmax is always the first. f records "
            "the result of the argmax, P what went into it; the balancing loss needs both.",
        ),
        see=("top-k", "load", "importance"),
    ),
    Term(
        "combine weight", ("gate value",), "practitioner",
        "How much the output of a chosen expert counts in the layer's output.",
        by_level(
            "The router's confidence in an expert also sets how loud that expert is.",
            "It is the probability of the chosen expert. Through it the task teaches the router: if a louder expert "
            "would have helped, its probability rises.",
            "It stays the router's own probability even where something else selects: a selection bias or Sinkhorn "
            "scores decide who is chosen, never how much it counts.",
        ),
        see=("renormalize", "router", "selection bias"),
    ),
    Term(
        "renormalize", ("renormalized", "renormalizing"), "expert",
        "Scale the weights of a token's chosen experts so that they sum to 1.",
        by_level(
            "If two experts were chosen with 0.3 and 0.2, they count as 0.6 and 0.4 afterwards.",
            "Optional for top-k of 2 or more: Mixtral does it, Switch does not. Here it is off unless you turn it on.",
            "With k = 1 the weight would be the constant 1, and the router would lose its only gradient from the task. "
            "The setting is therefore refused for k = 1.",
        ),
        formula="w_i = p_i / Σ over the chosen j of p_j", elsewhere=other_names("renormalize"),
        see=("combine weight", "top-k"),
    ),
    Term(
        "residual path", ("residual connection", "residual"), "practitioner",
        "The way around the layer: a token keeps its old value and the layer adds to it.",
        by_level(
            "The layer only adds to a token. If no expert takes a token, it goes on unchanged.",
            "A dropped token is not lost: it passes on by the residual path, without what the layer would have "
            "contributed.",
            "It makes dropping tokens affordable, and hard to see: the network stays finite and the task loss only "
            "rises, since some tokens are predicted without any expert.",
        ),
        formula="x + MoE(x)", see=("dropped token", "capacity"),
    ),
    Term(
        "dense and sparse", ("dense", "sparse", "dense model", "sparse model"), "practitioner",
        "A dense model uses all its weights for every token, a sparse one only some of them.",
        by_level(
            "An ordinary network is dense: everything works on everything. A Mixture-of-Experts is sparse: each token "
            "wakes up only a few experts.",
            "A collapsed MoE computes like a small dense model with the memory of a large one: one expert works, E are "
            "stored.",
            "With k = E nothing is sparse any more, every expert gets every token, and there is nothing left to "
            "balance.",
        ),
        see=("Mixture-of-Experts", "active parameters"),
    ),
    Term(
        "active parameters", ("active parameter",), "practitioner",
        "The weights that one token really passes through, as opposed to all that are stored.",
        by_level(
            "A model with eight experts stores eight, but a top-1 token uses one. Work follows the active part.",
            "Compute follows active parameters, memory follows all of them. Quoting only one of the two numbers says "
            "half of what a model costs.",
            "For the experts they are K/E of the total, whatever the balance. Collapse changes neither number, only "
            "how many of the stored weights ever learn.",
        ),
        formula="active / total = K / E, counting expert weights only", see=("dense and sparse", "top-k"),
    ),
)  # fmt: skip
"""In the order in which one would learn them."""
