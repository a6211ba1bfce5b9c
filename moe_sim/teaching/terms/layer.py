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
            "E experts and a router take the place of one MLP. Each token is sent to K of them, and the layer's output "
            "is the sum of their outputs, each weighted by the router's probability.",
            "Parameters grow with E, compute with K. The price is a discrete choice inside the network: the router "
            "gets its task gradient only through the combine weights of the chosen experts, so it can lock in on a few "
            "of them.",
        ),
        formula="y = Σ over the chosen i of p_i · expert_i(x)", see=("expert", "router", "collapse", "top-k"),
    ),
    Term(
        "expert", ("E",), "beginner",
        "One of the small networks in a Mixture-of-Experts layer; E is how many there are.",
        by_level(
            "A small network that handles some of the tokens. Nothing tells it what to be an expert in: that follows "
            "from the tokens it gets.",
            "Here a two-layer MLP. An expert learns only from the tokens it is sent, so one that gets none stays as it "
            "was at the start.",
            "Its gradient is a sum over its own tokens, scaled by their combine weights: load decides how fast an "
            "expert learns. That is one half of the feedback loop that ends in collapse.",
        ),
        see=("router", "load", "dead expert"),
    ),
    Term(
        "router", ("gate", "gating network"), "beginner",
        "The part of the layer that decides which experts each token is sent to.",
        by_level(
            "It looks at a token, gives every expert a score, and sends the token to the experts with the best scores. "
            "It learns together with the experts.",
            "A linear map from the token to E logits; softmax turns them into probabilities, and the K largest win.",
            "The choice itself has no derivative. The router learns from the task through the combine weights of the "
            "chosen experts, and from the load-balancing loss through P.",
        ),
        formula="p = softmax(x · W_r)", see=("logits", "softmax", "top-k"),
    ),
    Term(
        "token", ("T",), "beginner",
        "One item that the network processes; T is how many there are in a batch.",
        by_level(
            "In a language model a token is a word or a piece of one. In the Text task here it is a character, in the "
            "Topics task a vector that belongs to one topic.",
            "The router decides for each token separately. By default a batch here has 256 tokens.",
            "T counts all tokens of a step, whatever sequence they come from. f and P are estimated from these T "
            "tokens, so a small batch gives a noisy f.",
        ),
        see=("batch", "top-k", "load"),
    ),
    Term(
        "logits", ("logit", "router logit", "z"), "practitioner",
        "The router's raw scores, one per expert, before they become probabilities.",
        by_level(
            "A score for each expert: the higher, the more the router wants that expert for this token.",
            "Only differences between logits affect the probabilities. Large differences make the router certain and "
            "hard to change.",
            "Experts are selected by logits, because the probabilities of a confident router underflow to 0 and tie. "
            "The z-loss keeps the logits small.",
        ),
        formula="z = x · W_r", see=("softmax", "z-loss", "saturation"),
    ),
    Term(
        "softmax", ("router probability", "p"), "practitioner",
        "The function that turns the router's scores into probabilities that sum to 1.",
        by_level(
            "It turns any scores into positive shares: the expert with the best score gets the largest share.",
            "Each probability is e^logit over the sum of e^logit for all experts. A gap of 1 between two logits is a "
            "factor of 2.7 between their probabilities.",
            "Its derivative p_i·(δ_ij − p_j) goes to 0 as p nears 0 or 1: with a gap of 15 the smaller probability is "
            "3·10⁻⁷, and almost no gradient passes through.",
        ),
        formula="p_i = e^z_i / Σ_j e^z_j", see=("logits", "importance", "saturation"),
    ),
    Term(
        "top-k", ("k", "K", "top-1", "top-2", "top-4"), "beginner",
        "Each token is sent to the k experts that the router scores highest.",
        by_level(
            "With top-1 a token visits one expert, with top-2 it visits two. More experts per token mean more work and "
            "a more even spread of tokens.",
            "With k of E experts, even load is 1/E of the choices, which is k/E of the tokens: confusing the two makes "
            "a balanced top-2 router look collapsed.",
            "A larger k balances by itself, because no expert can get more than 1/k of the choices and runners-up "
            "learn too. It also changes the loss at balance in some conventions.",
        ),
        elsewhere=other_names("top-k (top_k)"), see=("router", "convention", "renormalize"),
    ),
    Term(
        "argmax", (), "practitioner",
        "The position of the largest value: a choice that has no gradient.",
        by_level(
            "The router picks the expert with the best score, however small its lead.",
            "A lead of a thousandth is enough to win every token. That is why a router can look undecided in its "
            "probabilities and still send everything to one expert.",
            "p = (0.251, 0.2497, 0.2497, 0.2497) has almost no variance, yet its argmax is always the first expert. f "
            "records the result of the argmax, P its input; the load-balancing loss needs both.",
        ),
        see=("top-k", "load", "importance"),
    ),
    Term(
        "combine weight", ("gate value",), "practitioner",
        "The weight of a chosen expert's output in the layer's output.",
        by_level(
            "The more confident the router is in an expert, the more that expert's output counts.",
            "It is the probability of the chosen expert. Through it the task trains the router: if more weight on the "
            "expert would have helped, its probability rises.",
            "It stays the router's own probability even if something else selects: a selection bias or Sinkhorn scores "
            "decide which experts are chosen, never how much they count.",
        ),
        see=("renormalize", "router", "selection bias"),
    ),
    Term(
        "score function", ("score_function", "sigmoid", "sigmoid scores"), "expert",
        "What turns logits into scores: softmax, for which experts compete, or sigmoid, for which they do not.",
        by_level(
            "With softmax all scores of a token sum to 1. With sigmoid each expert gets a mark of its own, from 0 to "
            "1.",
            "Sigmoid scores select and weigh as DeepSeek-V3 does: the top-k of s + bias, weights s divided by their "
            "sum over the chosen if renormalize is on. For a loss, P is s divided by its sum over all experts.",
            "σ(z) does not change if the other logits do, so one expert's gradient does not touch the others. "
            "Unnormalized, the router could lower E·Σ f·P by shrinking every score. Sigmoid scores do not prevent the "
            "collapse.",
        ),
        formula="s = 1 / (1 + e^−z)", elsewhere=other_names("score function (score_function)"),
        see=("router", "selection bias", "renormalize"),
    ),
    Term(
        "shared expert", ("shared_experts",), "practitioner",
        "An expert that every token passes, besides those that the router chooses.",
        by_level(
            "It learns what all tokens need. Nobody has to choose it.",
            "Its output is added to that of the chosen experts. It costs the arithmetic of one more choice per token, "
            "and takes no part in routing or balance.",
            "Dai et al. 2024 (DeepSeekMoE). Here it lowers the task loss, by 0.04 at α = 0 and step 300, and does not "
            "prevent the collapse: the busiest expert has 0.63 to 1.00 of the tokens at step 200 on six seeds.",
        ),
        formula="y = Σ_shared E_j(x) + Σ_chosen w_i E_i(x)", elsewhere=other_names("shared experts (shared_experts)"),
        see=("expert", "collapse"),
    ),
    Term(
        "renormalize", ("renormalized", "renormalizing"), "expert",
        "Scale the weights of a token's chosen experts so that they sum to 1.",
        by_level(
            "If two experts were chosen with 0.3 and 0.2, they count as 0.6 and 0.4 afterwards.",
            "Optional for top-k of 2 or more: Mixtral does it, Switch does not. Off by default here.",
            "With k = 1 the weight would be the constant 1, and the router would lose its only gradient from the task. "
            "So k = 1 does not allow it, nor does expert choice, where many tokens have one expert.",
        ),
        formula="w_i = p_i / Σ over the chosen j of p_j", elsewhere=other_names("renormalize"),
        see=("combine weight", "top-k"),
    ),
    Term(
        "residual path", ("residual connection", "residual"), "practitioner",
        "The path around the layer: a token keeps its value and the layer adds to it.",
        by_level(
            "The layer only adds to a token. If no expert takes a token, it passes on unchanged.",
            "A dropped token is not lost: it passes on along the residual path, without the layer's contribution.",
            "It makes dropped tokens affordable but hard to notice: nothing breaks, and the task loss only rises a "
            "little, since some tokens are predicted without any expert.",
        ),
        formula="x + MoE(x)", see=("dropped token", "capacity"),
    ),
    Term(
        "dense and sparse", ("dense", "sparse", "dense model", "sparse model"), "practitioner",
        "A dense model uses all its weights for every token, a sparse one only some of them.",
        by_level(
            "An ordinary network is dense: every part works on every token. A Mixture-of-Experts is sparse: each token "
            "activates only a few experts.",
            "A collapsed MoE computes like a small dense model with the memory of a large one: one expert works, E are "
            "stored.",
            "With k = E the layer is dense: every expert gets every token, and there is nothing left to balance.",
        ),
        see=("Mixture-of-Experts", "active parameters"),
    ),
    Term(
        "active parameters", ("active parameter",), "practitioner",
        "The weights that one token passes through, as opposed to all stored weights.",
        by_level(
            "A model with eight experts stores all eight, but a top-1 token uses only one. The work depends on the "
            "active part.",
            "Compute depends on active parameters, memory on all of them. Quoting only one of the two numbers tells "
            "half of what a model costs.",
            "Among the expert weights, K/E are active, whatever the balance. Collapse changes neither number, only how "
            "many of the stored weights ever learn.",
        ),
        formula="active / total = K / E, counting expert weights only", see=("dense and sparse", "top-k"),
    ),
    Term(
        "attention", ("causal attention",), "beginner",
        "The part of a transformer through which a token sees the earlier tokens of its sequence.",
        by_level(
            "Before a token goes to its experts, it looks back at the text so far and takes up what matters.",
            "In the Language task each layer is attention and then a Mixture-of-Experts layer. Without attention, as "
            "in the Topics and Text tasks, a token stands alone.",
            "softmax(q·kᵀ/√d)·v per head, masked so that position t sees positions up to t. The router gets its input "
            "from there, so the same character can go to different experts.",
        ),
        see=("token", "router", "Mixture-of-Experts"),
    ),
    Term(
        "ablation", ("switched off",), "practitioner",
        "Taking a part away to see what it was worth.",
        by_level(
            "Switch an expert off and see how much worse the model gets.",
            "In the Prompt tab a switched-off expert adds nothing to any token. The loss that it costs, beside that of "
            "another expert drawn at random, says what it was worth.",
            "The output of the expert is set to 0 and the router stays as it is, so its tokens keep their other choice "
            "and the residual path. An expert that is dead costs nothing.",
        ),
        see=("expert", "dead expert", "task loss"),
    ),
)  # fmt: skip
"""In learning order."""
