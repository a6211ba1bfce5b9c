"""Terms for the states a router can be in."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term

TERMS = (
    Term(
        "collapse", ("expert collapse", "collapsed", "router collapse", "routing collapse"), "beginner",
        "One or two experts do nearly all the work, and the others stop learning.",
        by_level(
            "An expert that starts with a few more tokens learns faster, so it is chosen more, so it learns faster "
            "still. In the end it takes everything, and the memory of all the others is wasted.",
            "The usual definition is one expert with more than half of the tokens. Here half of the experts dead "
            "counts too, and with few experts or a large k the line lies higher, so that balanced routing never "
            "crosses it.",
            "A positive feedback between load and gradient. On the Topics task at α = 0 all ten seeds end with one "
            "expert taking everything; without the direction that all tokens share, none does.",
        ),
        see=("feedback loop", "dead expert", "load-balancing loss", "shared direction"),
    ),
    Term(
        "feedback loop", ("rich get richer", "self-reinforcing"), "beginner",
        "More tokens, more learning, better results, and so again more tokens.",
        by_level(
            "Being chosen makes an expert better, and being better makes it chosen. Small differences grow.",
            "Four steps of one circle: token share, gradient norm, weight change, better outputs for the tokens at "
            "hand, and back to token share.",
            "The gain of the loop depends on how alike tokens look to the router: a shared direction lets one update "
            "raise an expert's logit for all tokens at once.",
        ),
        see=("collapse", "gradient norm", "shared direction"),
    ),
    Term(
        "dead expert", ("dead", "starved expert"), "beginner",
        "An expert that gets next to no tokens: less than a tenth of its even share.",
        by_level(
            "It gets almost nothing to do, so it learns almost nothing, and the router has no reason to try it again.",
            "Smoothed load below 0.1/E. With eight experts that is 1.25\u00a0% of the choices.",
            "Tools disagree about the line: some call an expert dead only when it got nothing at all. The line can be "
            "moved under the diagnosis thresholds.",
        ),
        formula="smoothed f_i < 0.1 / E", see=("collapse", "smoothed", "healthy band"),
    ),
    Term(
        "healthy band", ("healthy",), "beginner",
        "Loads from half of to twice the even share, in which nothing needs to be done.",
        by_level(
            "Experts need not be equal. Eight experts each between 10\u00a0% and 15\u00a0% are in a good state.",
            "0.5/E to 2/E. If code is a tenth of the data, its expert should get a tenth of the tokens.",
            "With few experts or a large k the upper end is nearer than 2/E, since twice the even share may be all "
            "that there is. Unequal groups in the data make unequal loads, and that is right.",
        ),
        see=("load", "imbalance ratio", "over-balanced"),
    ),
    Term(
        "over-balanced", ("overbalanced",), "practitioner",
        "Routing so even that the router no longer tells tokens apart.",
        by_level(
            "Everyone gets the same, but at random. Experts that all see the same mixture cannot specialize.",
            "The sign: even load, router entropy near 1, specialization falling, task loss no longer falling. Lower α.",
            "On the Topics task specialization is 0.68 at α = 0.1 and 0.36 at α = 10, and the task loss rises from "
            "2.281 to 2.498. The balance loss is about 1 in both and does not show it.",
        ),
        see=("α", "router entropy", "specialization"),
    ),
    Term(
        "saturation", ("saturated",), "expert",
        "Router scores so far apart that the probabilities are 0 or 1 and nothing can move them.",
        by_level(
            "The router has become so certain that it no longer learns, not even from a balancing loss.",
            "A gap of 15 between two logits is a probability of 3·10⁻⁷. Gradients pass through the softmax in that "
            "proportion, so a large α does not help either.",
            "A burst of high learning rate is enough. The cure is a z-loss from the start, or a restart: the gradient "
            "of logsumexp(z)² does not vanish where that of the softmax does.",
        ),
        see=("logits", "z-loss", "softmax"),
    ),
    Term(
        "divergence", ("diverged", "diverging"), "practitioner",
        "A run whose numbers grow without bound until they are no longer finite.",
        by_level(
            "The training has blown up. The last healthy state stays on the screen; start again with a smaller "
            "learning rate.",
            "A loss or gradient that is not finite ends a run here, and its weights stay as they were before.",
            "Run-away router logits are a usual cause in MoE training; the z-loss was introduced against them.",
        ),
        see=("learning rate", "z-loss"),
    ),
    Term(
        "distribution shift", ("data shift", "shift of the data"), "practitioner",
        "The data change after training, so that what was balanced need not be any more.",
        by_level(
            "A router that was fine on the old data can overload one expert on the new data.",
            "If an expert owns a topic and that topic becomes common, its load grows with it. Freeze a run and change "
            "the topics' frequencies to see it.",
            "A balancing loss balances the batches of training, not the data set and not tomorrow's traffic. "
            "Specialized routers are the most exposed. Measure load on the new data.",
        ),
        see=("freeze", "inference", "topic order"),
    ),
    Term(
        "freeze", ("frozen",), "beginner",
        "Stop all learning and go on routing, as after training.",
        by_level(
            "The weights stay as they are. You can now change the data and see how a finished router copes.",
            "No updates of router, experts or selection bias; batches go on. The control for studying a shift of the "
            "data.",
            "Noise and capacity act as set, so a frozen run is not quite inference; the inference view routes held-out "
            "tokens without either.",
        ),
        see=("distribution shift", "inference"),
    ),
    Term(
        "inference", ("in inference", "inference routing"), "practitioner",
        "Using the finished model: no learning, no noise, each token routed by itself.",
        by_level(
            "When the model is used, nothing is trained any more. Balance matters less then, because nobody has to "
            "learn.",
            "Training adds what inference drops: noise, a capacity limit, mechanisms that compare the tokens of a "
            "batch. Load can therefore differ between the two.",
            "Expert choice and Sinkhorn look at a batch; a token that comes alone is routed by the router's own top-k, "
            "which nothing has balanced. Here 512 held-out tokens are routed that way every ten steps.",
        ),
        see=("held-out", "expert choice", "Sinkhorn", "distribution shift"),
    ),
)  # fmt: skip
"""In the order in which one would learn them."""
