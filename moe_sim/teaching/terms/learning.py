"""Terms for training in general."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term

TERMS = (
    Term(
        "task loss", (), "beginner",
        "How badly the network does its actual task; lower is better.",
        by_level(
            "The number that training tries to bring down. It can look healthy while a router collapses.",
            "Cross-entropy of the labels, in nats, without any balancing loss. Compare it between runs of the same "
            "task.",
            "A collapsed run and a balanced one are hard to tell apart by it in the first few hundred steps; on the "
            "Topics task the gap opens later and stays open after a late rescue.",
        ),
        see=("cross-entropy", "load-balancing loss", "held-out"),
    ),
    Term(
        "cross-entropy", (), "practitioner",
        "The usual loss for predictions: how surprised the network was by the right answer.",
        by_level(
            "If the network gave the right answer a high probability, it is near 0; if a low one, it is large.",
            "Minus the logarithm of the probability given to the label, mean over tokens.",
            "Guessing evenly among n classes costs ln n: 2.77 nats for the 16 classes of the Topics task. Below that "
            "the network knows something.",
        ),
        formula="−ln p(label)", see=("nat", "task loss"),
    ),
    Term(
        "nat", (), "expert",
        "The unit of information with natural logarithms: 1 nat is 1.44 bits.",
        by_level(
            "A unit for surprise. A loss of 0.7 nats is about the surprise of a coin toss.",
            "A loss in nats is −ln of a probability: 2.3 nats is one chance in ten.",
            "Divide by ln 2 for bits; e to the loss is the perplexity.",
        ),
        formula="1 nat = 1 / ln 2 bits", see=("cross-entropy",),
    ),
    Term(
        "gradient", (), "practitioner",
        "The direction in which each weight has to move to bring the loss down fastest.",
        by_level(
            "It says for every weight whether it should grow or shrink, and how much that would help.",
            "The derivative of the total loss. An expert that no token reached has a gradient of exactly 0.",
            "The router has three: from the task through the combine weights, from the balancing loss through P, and "
            "from the z-loss. α sets the ratio of the first two.",
        ),
        see=("gradient norm", "cosine", "α"),
    ),
    Term(
        "gradient norm", ("grad norm",), "practitioner",
        "The length of the gradient: how strongly the loss pulls at some weights.",
        by_level(
            "A large number means much to learn from this batch, 0 means nothing at all.",
            "Euclidean norm over an expert's weights. It falls to 0 for experts without tokens, long before anything "
            "shows in the task loss.",
            "Adam divides by a running size of the gradient, so a small norm does not mean a small step; only a norm "
            "of 0 lets an expert come to rest.",
        ),
        see=("gradient", "dead expert", "Adam"),
    ),
    Term(
        "cosine", ("gradient cosine", "cosine similarity"), "expert",
        "Whether two gradients pull the same way (1), across (0) or against each other (−1).",
        by_level(
            "Two forces on the same router: do they help or hinder each other?",
            "Between the task's gradient and that of the balancing loss on the router's weights. Negative means that "
            "balance is bought against the task.",
            "Undefined where one of the two is 0. Read it beside the ratio of the norms: a cosine of −1 means little "
            "if one pull is a hundredth of the other.",
        ),
        see=("gradient", "α"),
    ),
    Term(
        "learning rate", (), "beginner",
        "How big a correction each step makes.",
        by_level(
            "Too small and learning takes forever, too large and the network overshoots and may blow up.",
            "The step size of Adam, 0.003 here unless you change it.",
            "A short burst of a much larger rate can saturate the router for good, where no α reaches it any more: "
            "see the scenario Diverging router.",
        ),
        see=("Adam", "divergence", "saturation"),
    ),
    Term(
        "Adam", (), "practitioner",
        "The method that turns gradients into corrections of the weights.",
        by_level(
            "A widely used recipe for training: it adapts the size of the correction to each weight.",
            "It keeps running means of the gradient and of its square, and steps by the ratio of the first to the "
            "root of the second.",
            "Because of that ratio, the scale of a loss that is alone does not matter; α matters because two "
            "gradients are added before the ratio is taken.",
        ),
        see=("learning rate", "gradient"),
    ),
    Term(
        "seed", (), "beginner",
        "A number that fixes all the chance in a run, so that it can be repeated.",
        by_level(
            "The same seed gives the same run, number for number, on the same machine. Another seed is another try.",
            "It fixes data, their order and the initial weights, independently of the live knobs: two runs with one "
            "seed differ only in what you changed.",
            "One seed is an anecdote. Which expert wins depends on it, and so do second digits; the tables of this "
            "project give mean and standard deviation over ten.",
        ),
        see=("step", "batch"),
    ),
    Term(
        "held-out", ("held-out token",), "practitioner",
        "Data that the network never trains on, kept for checking.",
        by_level(
            "Like exam questions that were not in the exercises.",
            "The routing map and the inference view use such tokens. In the Topics task no token ever comes twice, so "
            "train and held-out loss hardly differ there.",
            "512 of them are routed as in inference every ten steps; they are drawn anew when the data shift, the "
            "same ones each time.",
        ),
        see=("inference", "task loss", "distribution shift"),
    ),
    Term(
        "weight change", ("weight movement",), "expert",
        "How far an expert's weights moved in a step, relative to their size.",
        by_level(
            "An expert that does not move does not learn.",
            "‖Δw‖ / ‖w‖. It follows the gradient with a delay, since Adam remembers.",
            "After the last token an expert coasts on Adam's running mean for some steps. The distance from the "
            "initial weights then stands still: the clearest picture of a dead expert.",
        ),
        formula="‖Δw‖ / ‖w‖", see=("gradient norm", "dead expert", "Adam"),
    ),
)  # fmt: skip
"""In the order in which one would learn them."""
