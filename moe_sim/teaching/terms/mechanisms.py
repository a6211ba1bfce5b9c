"""Terms for what balances without a loss, and for noise."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term, other_names

TERMS = (
    Term(
        "balancing mechanism", ("mechanism",), "beginner",
        "Whatever keeps all experts in use: a loss, or another way to select experts.",
        by_level(
            "Left alone, a router may use few experts only. A mechanism works against that.",
            "Losses change the router itself; selection bias, expert choice and Sinkhorn change who is selected and "
            "leave the router's preference alone.",
            "Where load is even but the router's own top-k is not, the selection balances and the router does not. "
            "That difference matters as soon as the mechanism is absent, as some are in inference.",
        ),
        see=("load-balancing loss", "selection bias", "expert choice", "Sinkhorn"),
    ),
    Term(
        "selection bias", ("auxiliary-loss-free", "aux-loss-free", "bias method"), "practitioner",
        "A handicap added to each expert's score for the choice only: busy experts go down, idle ones up.",
        by_level(
            "After every step each expert that had too much is made a little less attractive, and the others a little "
            "more. No loss is needed.",
            "b_i rises by the bias rate if expert i had less than the mean load and falls if it had more. The bias "
            "never touches the combine weight.",
            "No gradient, so nothing fights the task in the router's weights (Wang et al. 2024, DeepSeek-V3). The "
            "step has one size, whatever the excess: around balance the biases keep moving up and down by one rate.",
        ),
        formula="b_i += rate · sign(mean load − load_i)", see=("bias rate", "combine weight", "balancing mechanism"),
    ),
    Term(
        "bias rate", ("bias_rate",), "expert",
        "How far the selection bias of an expert moves after each step.",
        by_level(
            "A larger rate reacts faster and overshoots more.",
            "0.001 is usual on sigmoid scores between 0 and 1. On the softmax probabilities of this app 0.01 is the "
            "better start.",
            "The right rate scales with the scores that it is added to. On the Topics task, worst of ten seeds, the "
            "busiest expert still takes 0.36 at a rate of 0.001, against 0.14 at 0.01; the task loss is 2.531 against "
            "2.248.",
        ),
        elsewhere=other_names("bias rate (bias_rate)"), see=("selection bias",),
    ),
    Term(
        "expert choice", ("expert-choice routing",), "practitioner",
        "Turned round: each expert picks its tokens, so every expert has equally many.",
        by_level(
            "Loads are even by construction. In return a token may be picked by several experts, or by none.",
            "Each expert takes the T·K/E tokens that like it best. Nothing is learned about balance and nothing "
            "overflows.",
            "Zhou et al. 2022. It compares the tokens of a batch, which a token in inference does not have: routed by "
            "its own top-k it may find an unbalanced router. Later tokens influence earlier ones in training.",
        ),
        see=("unserved token", "inference", "balancing mechanism"),
    ),
    Term(
        "Sinkhorn", ("Sinkhorn selection", "BASE"), "expert",
        "Selection from scores that were scaled until every expert is liked alike.",
        by_level(
            "Before the choice is made, popular experts' scores are scaled down and unpopular ones' up.",
            "Rows and columns of the score matrix are normalized in turn, 20 times here; then each token takes its "
            "top-k. The combine weight stays the raw probability.",
            "Nearly even, not exactly: the argmax of a balanced matrix need not be balanced. Like expert choice it "
            "needs a batch, so in inference the router's own top-k takes its place.",
        ),
        see=("expert choice", "inference", "combine weight"),
    ),
    Term(
        "preferred load", ("preferred_load", "preference"), "expert",
        "The load that the router's own top-k would give, without noise and without what a mechanism adds.",
        by_level(
            "What the router would do if it were left to choose.",
            "Compare it with the load. Alike: the router itself is balanced. Different: only the selection is.",
            "The early warning for inference under expert choice and Sinkhorn, where the preference is all that is "
            "left.",
        ),
        see=("load", "balancing mechanism", "inference"),
    ),
    Term(
        "router noise", ("routing noise", "noise strength", "noise_std"), "practitioner",
        "Randomness in the router's choices during training, meant to let other experts have a try.",
        by_level(
            "A little chance in the choice gives idle experts some tokens. In this app's Topics task it does not "
            "prevent collapse.",
            "Either the router's input is multiplied by random factors (jitter) or Gaussian noise is added to its "
            "logits. Training only.",
            "It spreads early choices and raises variance. Here Gaussian noise of σ = 1 with α = 0 ends with one "
            "expert taking everything on all ten seeds: that is this task, not a law.",
        ),
        see=("jitter", "noisy top-k", "learned noise"),
    ),
    Term(
        "jitter", ("jitter noise",), "expert",
        "Noise that multiplies the router's input by factors near 1.",
        by_level(
            "The router sees each token slightly distorted, differently each time.",
            "Every input is multiplied by a draw from U(1 − ε, 1 + ε), in training only, as in the Switch Transformer.",
            "It scales with the input, so components near 0 are hardly disturbed. ε acts up to 1. Alone it did not "
            "prevent collapse on the Topics task: the largest load is 0.98 at ε = 1/8, mean of ten seeds.",
        ),
        formula="x · U(1 − ε, 1 + ε)", see=("router noise", "shared direction"),
    ),
    Term(
        "noisy top-k", ("Gaussian noise", "σ"), "expert",
        "Gaussian noise added to the logits before the top-k is taken.",
        by_level(
            "Experts whose scores are close take turns by chance.",
            "Noise with standard deviation σ, in training only. V-MoE fixes σ at 1/E.",
            "It only shuffles experts within about σ of each other; once the gap has grown beyond that it changes "
            "nothing. The load loss needs it, since it turns counts into probabilities.",
        ),
        formula="z + σ · N(0, 1)", see=("router noise", "load loss", "learned noise"),
    ),
    Term(
        "learned noise", ("learned σ",), "expert",
        "Gaussian noise whose strength the router learns for each token and expert.",
        by_level(
            "The network itself decides how much chance there is in a choice.",
            "σ = softplus(x · W), a second linear map beside the router's (Shazeer et al. 2017).",
            "W starts at 0, so σ starts at ln 2. With the load loss it has a gradient from the balance too; alone it "
            "does not prevent collapse on the Topics task: the largest load is 0.95 and 6.5 of 8 experts are dead, "
            "mean of ten seeds.",
        ),
        formula="σ = softplus(x · W_noise)", see=("noisy top-k", "load loss"),
    ),
)  # fmt: skip
"""In the order in which one would learn them."""
