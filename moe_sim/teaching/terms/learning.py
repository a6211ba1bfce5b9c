"""Terms for training in general."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term

TERMS = (
    Term(
        "task loss", (), "beginner",
        "How badly the network performs its actual task; lower is better.",
        by_level(
            "The number that training tries to reduce. It can look healthy while a router collapses.",
            "Cross-entropy of the labels, in nats, without any balancing loss. Compare it only between runs on the "
            "same task.",
            "In the first few hundred steps it hardly distinguishes a collapsed run from a balanced one. On the Topics "
            "task the gap opens later and stays open after a late rescue.",
        ),
        see=("cross-entropy", "load-balancing loss", "held-out"),
    ),
    Term(
        "mistake that still trains", ("mistake", "silent bug"), "practitioner",
        "A wrong line of code that crashes nothing: the loss falls, only less far than it should.",
        by_level(
            "The program runs and the curve goes down. Something is wrong all the same.",
            "A router without a gradient, a loss that is logged and not added, an evaluation with noise: each shows in "
            "one chart, if one knows which. The Museum has eleven to practise on.",
            "Typical places: what is detached, what is divided by k or by the number of micro-batches, which layers "
            "are pooled, what stays on in evaluation. Check each number against its value in a case that can be "
            "computed by hand, such as 1 at an even load.",
        ),
        see=("load-balancing loss", "combine weight", "held-out"),
    ),
    Term(
        "cross-entropy", (), "practitioner",
        "The usual loss for predictions: how surprised the network is by the right answer.",
        by_level(
            "It is near 0 if the network gave the right answer a high probability, and large if it gave a low one.",
            "The negative logarithm of the label's probability, averaged over tokens.",
            "Uniform guessing among n classes costs ln n: 2.77 nats for the 16 classes of the Topics task. Below that "
            "the network has learned something.",
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
        "For each weight, which way and how strongly the loss changes with it.",
        by_level(
            "It tells for each weight whether it should grow or shrink, and how much that would help.",
            "The derivative of the total loss. An expert that no token reached has a gradient of exactly 0.",
            "The router has three: from the task through the combine weights, from the load-balancing loss through P, "
            "and from the z-loss. α sets the ratio of the first two.",
        ),
        see=("gradient norm", "cosine", "α"),
    ),
    Term(
        "gradient norm", ("grad norm",), "practitioner",
        "The length of the gradient: how strongly the loss pulls on a set of weights.",
        by_level(
            "A large value means much to learn from this batch, 0 means nothing at all.",
            "Euclidean norm over an expert's weights. It falls to 0 for experts without tokens, long before the task "
            "loss shows anything.",
            "Adam divides by a running size of the gradient, so a small norm does not mean a small step; only a norm "
            "of 0 brings an expert to rest.",
        ),
        see=("gradient", "dead expert", "Adam"),
    ),
    Term(
        "cosine", ("gradient cosine", "cosine similarity"), "expert",
        "Whether two gradients pull the same way (1), across (0) or against each other (−1).",
        by_level(
            "Two pulls on the same router: do they help or hinder each other?",
            "Measured between the gradients of the task loss and of the load-balancing loss on the router's weights. "
            "Negative means that balance works against the task.",
            "Undefined if one of the two is 0. Read it together with the ratio of the norms: a cosine of −1 means "
            "little if one gradient is a hundredth of the other.",
        ),
        see=("gradient", "α"),
    ),
    Term(
        "learning rate", (), "beginner",
        "The size of the correction in each step.",
        by_level(
            "Too small and learning takes forever, too large and the network overshoots and may blow up.",
            "The step size of Adam, 0.003 by default.",
            "A short burst of a much larger rate can saturate the router for good, and then α no longer has any "
            "effect: see the scenario Diverging router.",
        ),
        see=("Adam", "divergence", "saturation"),
    ),
    Term(
        "Adam", (), "practitioner",
        "The optimizer that turns gradients into corrections of the weights.",
        by_level(
            "A widely used recipe for training: it adapts the size of the correction to each weight.",
            "It keeps running means of the gradient and of its square. Each step is proportional to the first over the "
            "square root of the second.",
            "It divides by the size of the gradient, so the scale of a single loss does not matter; α matters because "
            "two gradients are added before that division.",
        ),
        see=("learning rate", "gradient"),
    ),
    Term(
        "seed", (), "beginner",
        "A number that fixes all randomness in a run, so that the run can be repeated.",
        by_level(
            "The same seed gives exactly the same run on the same machine. Another seed is another try.",
            "It fixes the data, their order and the initial weights, independently of the live knobs: two runs with "
            "the same seed differ only in what you changed.",
            "One seed is an anecdote. It decides which expert wins and affects the second digit of most results; the "
            "tables of this project give mean and standard deviation over ten seeds.",
        ),
        see=("step", "batch"),
    ),
    Term(
        "held-out", ("held-out token",), "practitioner",
        "Data kept for evaluation, on which the network never trains.",
        by_level(
            "Like exam questions that were not in the exercises.",
            "The routing map and the Inference view use held-out tokens. In the Topics task no token ever appears "
            "twice, so training and held-out loss hardly differ.",
            "Every ten steps 512 held-out tokens are routed as in inference. They are always the same ones; only a "
            "data shift draws a new set.",
        ),
        see=("inference", "task loss", "distribution shift"),
    ),
    Term(
        "weight change", ("weight movement",), "expert",
        "How far an expert's weights moved in a step, relative to their size.",
        by_level(
            "An expert that does not move does not learn.",
            "‖Δw‖ / ‖w‖. It follows the gradient with a delay, because Adam averages over past steps.",
            "After its last token an expert coasts on Adam's running mean for some steps. Then its distance from the "
            "initial weights stays constant: the clearest sign of a dead expert.",
        ),
        formula="‖Δw‖ / ‖w‖", see=("gradient norm", "dead expert", "Adam"),
    ),
)  # fmt: skip
"""In learning order."""
