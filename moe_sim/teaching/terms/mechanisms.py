"""Terms for balancing without a loss, and for router noise."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term, other_names

TERMS = (
    Term(
        "balancing mechanism", ("mechanism",), "beginner",
        "Whatever keeps all experts in use: a loss, or another way to select experts.",
        by_level(
            "Without a mechanism, a router may use only a few experts.",
            "Losses change the router itself; selection bias, expert choice and Sinkhorn change which experts are "
            "selected and leave the router's preference alone.",
            "If the load is even but the router's own top-k is not, the selection is balanced and the router is not. "
            "That matters as soon as the mechanism is absent, as some are in inference.",
        ),
        see=("load-balancing loss", "selection bias", "expert choice", "Sinkhorn"),
    ),
    Term(
        "selection bias", ("auxiliary-loss-free", "aux-loss-free", "bias method"), "practitioner",
        "A correction added to each expert's score for selection only: down for busy experts, up for idle ones.",
        by_level(
            "After every step, experts that had too much become a little less attractive, and the others a little "
            "more. No loss is needed.",
            "b_i rises by the bias rate if expert i had less than the mean load and falls if it had more. The bias "
            "never touches the combine weight.",
            "It has no gradient, so it does not interfere with the task (Wang et al. 2024, DeepSeek-V3). The step size "
            "is fixed, whatever the excess: around balance the biases keep moving up and down by the rate. Only "
            "differences between biases count: all may rise together, which changes nothing.",
        ),
        formula="b_i += rate · sign(mean load − load_i)", see=("bias rate", "combine weight", "balancing mechanism"),
    ),
    Term(
        "bias rate", ("bias_rate",), "expert",
        "How far the selection bias of an expert moves after each step.",
        by_level(
            "A larger rate reacts faster and overshoots more.",
            "0.001 is usual on sigmoid scores between 0 and 1. On the softmax probabilities of this app 0.01 is a "
            "better start.",
            "The right rate depends on the scale of the scores. On the Topics task, worst of ten seeds, the busiest "
            "expert still takes 0.25 at a rate of 0.001, against 0.14 at 0.01; the task loss is 2.584 against 2.284.",
        ),
        elsewhere=other_names("bias rate (bias_rate)"), see=("selection bias",),
    ),
    Term(
        "bias update", ("bias_update",), "expert",
        "By how much a selection bias moves: always by the rate, or in proportion to the excess.",
        by_level(
            "Either each step is equally long, or it is longer for an expert that is far off.",
            "sign moves every bias by the rate; proportional moves it by the rate times 1 − E·load. Both are centred "
            "afterwards, so that the biases sum to 0.",
            "Wang et al. (2024) tried both and kept the sign. Uncentred, the mean drifts by rate · (n₊ − n₋)/E a step, "
            "where n₊ experts rise and n₋ fall; it changes no choice.",
        ),
        formula="b_i += rate · (1 − E · load_i)", see=("selection bias", "bias rate"),
    ),
    Term(
        "hash routing", ("hash", "hash layer"), "expert",
        "A fixed map from token to expert: balanced without learning, and blind.",
        by_level(
            "Nobody chooses. The same token always goes to the same expert.",
            "A multiplicative hash of the token names its experts, whose outputs are averaged. In a text the token is "
            "its character, so frequent characters make busy experts.",
            "Roller et al. 2021. In the topics task no token comes twice, so the expert is as good as drawn: the load "
            "is even, specialization is 0, and the task loss at step 400 is 2.63, as bad as after a collapse. Means of "
            "five seeds.",
        ),
        see=("balancing mechanism", "specialization"),
    ),
    Term(
        "expert choice", ("expert-choice routing",), "practitioner",
        "Reversed: each expert picks its tokens, so all get equally many.",
        by_level(
            "Loads are even by construction. In return a token may be picked by several experts, or by none.",
            "Each expert takes the T·K/E tokens with the highest scores for it. The router does not learn to balance, "
            "and with a capacity factor of 1 or more nothing overflows. Below 1, each expert keeps its best tokens.",
            "Zhou et al. 2022. It compares the tokens of a batch. In inference a token comes alone and is routed by "
            "the router's own top-k, which may be unbalanced. In training, later tokens influence earlier ones.",
        ),
        see=("unserved token", "inference", "balancing mechanism"),
    ),
    Term(
        "Sinkhorn", ("Sinkhorn selection", "BASE"), "expert",
        "Selection from scores that are rescaled until every expert is equally popular.",
        by_level(
            "Before selection, the scores of popular experts are scaled down and those of unpopular ones up.",
            "Rows and columns of the score matrix are normalized alternately, 20 times here; then each token takes its "
            "top-k. The combine weight stays the raw probability.",
            "Nearly even, not exactly: the argmax of a balanced matrix need not be balanced. Like expert choice it "
            "needs a batch, so inference uses the router's own top-k instead.",
        ),
        see=("expert choice", "inference", "combine weight"),
    ),
    Term(
        "preferred load", ("preferred_load", "preference"), "expert",
        "The load from the router's own top-k, without noise and without a balancing mechanism.",
        by_level(
            "What the router itself would choose.",
            "Compare it with the load. If both are even, the router itself is balanced; if only the load is, just the "
            "selection is balanced.",
            "An early warning for inference under expert choice and Sinkhorn, where only the preference remains.",
        ),
        see=("load", "balancing mechanism", "inference"),
    ),
    Term(
        "router noise", ("routing noise", "noise strength", "noise_std"), "practitioner",
        "Randomness in the router's choices during training, meant to give other experts a chance.",
        by_level(
            "A little randomness gives idle experts some tokens. In this app's Topics task it does not prevent "
            "collapse.",
            "Either the router's input is multiplied by random factors (jitter) or Gaussian noise is added to its "
            "logits. Training only.",
            "It spreads early choices and increases variance. Here Gaussian noise of σ = 1 with α = 0 ends with one "
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
            "The noise scales with the input, so components near 0 hardly change. ε is capped at 1. Alone it did not "
            "prevent collapse on the Topics task: the largest load is 0.98 at ε = 1/8, mean of ten seeds.",
        ),
        formula="x · U(1 − ε, 1 + ε)", see=("router noise", "shared direction"),
    ),
    Term(
        "noisy top-k", ("Gaussian noise", "σ"), "expert",
        "Gaussian noise added to the logits before top-k selection.",
        by_level(
            "Experts with similar scores take turns at random.",
            "Noise with standard deviation σ, in training only. V-MoE fixes σ at 1/E.",
            "It only shuffles experts whose logits lie within about σ of each other; once the gap is larger it changes "
            "nothing. The load loss needs it to turn counts into probabilities.",
        ),
        formula="z + σ · N(0, 1)", see=("router noise", "load loss", "learned noise"),
    ),
    Term(
        "learned noise", ("learned σ",), "expert",
        "Gaussian noise whose strength the router learns for each token and expert.",
        by_level(
            "The network itself decides how random each choice is.",
            "σ = softplus(x · W), a second linear map beside the router's (Shazeer et al. 2017).",
            "W starts at 0, so σ starts at ln 2. With the load loss it also gets a gradient from balancing; alone it "
            "does not prevent collapse on the Topics task: the largest load is 0.95 and 6.5 of 8 experts are dead, "
            "mean of ten seeds.",
        ),
        formula="σ = softplus(x · W_noise)", see=("noisy top-k", "load loss"),
    ),
)  # fmt: skip
"""In learning order."""
