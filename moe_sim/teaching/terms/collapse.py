"""Terms for the states of a router."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term

TERMS = (
    Term(
        "collapse", ("expert collapse", "collapsed", "router collapse", "routing collapse"), "beginner",
        "One or two experts do nearly all the work, and the others stop learning.",
        by_level(
            "A small lead grows until one expert takes nearly everything and the memory of the others is wasted. Why "
            "it grows is a question for the lesson Which loop is it?",
            "The usual definition is one expert with more than half of the tokens. Here a run in which half of the "
            "experts are dead counts too, and with few experts or a large k the threshold is higher, so that balanced "
            "routing never crosses it.",
            "Positive feedback. On the Topics task at α = 0 all ten seeds collapse, and with frozen experts nearly all "
            "still do; with a router blind to the direction that all tokens share, or without that direction, none.",
        ),
        see=("feedback loop", "dead expert", "load-balancing loss", "shared direction"),
    ),
    Term(
        "feedback loop", ("rich get richer", "self-reinforcing"), "beginner",
        "More tokens, more learning, better results, and so more tokens again.",
        by_level(
            "Being chosen makes an expert better, and being better makes it chosen. Small differences grow. So says "
            "the textbook; here the router can do it alone.",
            "Four stages of one loop: token share, gradient norm, weight change, better outputs for these tokens, and "
            "back to token share. In this lab a shorter loop leads: the router's own gradient raises its favourite's "
            "logit for all tokens at once.",
            "The gain of the loop depends on how alike tokens look to the router: a shared direction lets one update "
            "raise an expert's logit for all tokens at once.",
        ),
        see=("collapse", "gradient norm", "shared direction"),
    ),
    Term(
        "dead expert", ("dead", "starved expert"), "beginner",
        "An expert that gets almost no tokens: less than a tenth of its even share.",
        by_level(
            "It gets almost nothing to do, so it learns almost nothing, and the router has no reason to try it again.",
            "Smoothed load below 0.1/E. With eight experts that is 1.25\u00a0% of the choices.",
            "Tools disagree about the threshold: some call an expert dead only if it got nothing at all. You can "
            "change it under the diagnosis thresholds.",
        ),
        formula="smoothed f_i < 0.1 / E", see=("collapse", "smoothed", "healthy band"),
    ),
    Term(
        "healthy band", ("healthy",), "beginner",
        "Loads from half to twice the even share, where nothing needs to be done.",
        by_level(
            "Experts need not be equal. Eight experts each between 10\u00a0% and 15\u00a0% are in a good state.",
            "0.5/E to 2/E. If code is a tenth of the data, its expert should get a tenth of the tokens.",
            "With few experts or a large k the upper end is below 2/E, since twice the even share may be the largest "
            "possible load. Groups of unequal size in the data give unequal loads, and rightly so.",
        ),
        see=("load", "imbalance ratio", "over-balanced"),
    ),
    Term(
        "over-balanced", ("overbalanced",), "practitioner",
        "Routing so even that the router no longer tells tokens apart.",
        by_level(
            "All experts get the same share, but at random. Experts that all see the same mixture cannot specialize.",
            "The signs: even load, router entropy near 1, specialization falling, task loss no longer falling. Lower "
            "α.",
            "On the Topics task specialization is 0.70 at α = 0.1 and 0.31 at α = 10, and the task loss rises from "
            "2.281 to 2.541. The load-balancing loss is about 1 in both and does not show it.",
        ),
        see=("α", "router entropy", "specialization"),
    ),
    Term(
        "saturation", ("saturated",), "expert",
        "Router scores so far apart that the probabilities are 0 or 1 and hardly change any more.",
        by_level(
            "A router this certain no longer responds, even to α.",
            "A gap of 15 between two logits is a probability of 3·10⁻⁷. The softmax scales gradients by that factor, "
            "so even a large α does not help.",
            "A short burst of a high learning rate is enough. The remedy is a z-loss from the start, or a restart: the "
            "gradient of logsumexp(z)² does not vanish where the softmax gradient does.",
        ),
        see=("logits", "z-loss", "softmax"),
    ),
    Term(
        "divergence", ("diverged", "diverging"), "practitioner",
        "A run whose values grow without bound until they are no longer finite.",
        by_level(
            "Training has blown up. The last healthy state stays on the screen; restart with a smaller learning rate.",
            "Here a loss or gradient that is not finite ends the run, with the weights as they were before that step.",
            "Runaway router logits are a common cause in MoE training; the z-loss was introduced to prevent them.",
        ),
        see=("learning rate", "z-loss"),
    ),
    Term(
        "distribution shift", ("data shift", "shift of the data"), "practitioner",
        "A change in the data after training, which can unbalance a balanced router.",
        by_level(
            "A router that was fine on the old data can overload one expert on the new data.",
            "If an expert owns a topic and that topic becomes common, its load grows with it. Freeze a run and change "
            "the topics' frequencies to see it.",
            "A balancing loss balances training batches, not the data set and not tomorrow's traffic. Specialized "
            "routers are affected most. Measure load on the new data.",
        ),
        see=("freeze", "inference", "topic rotation"),
    ),
    Term(
        "freeze", ("frozen",), "beginner",
        "Stop learning, keep routing, as after training.",
        by_level(
            "The weights stay as they are. You can then change the data and see how a finished router copes.",
            "No updates of router, experts or selection bias; new batches keep coming. The setting for studying a data "
            "shift.",
            "Noise and capacity still apply, so a frozen run is not quite inference; the Inference view routes "
            "held-out tokens without either.",
        ),
        see=("distribution shift", "inference"),
    ),
    Term(
        "inference", ("in inference", "inference routing"), "practitioner",
        "Using the finished model: no learning, no noise, each token routed by itself.",
        by_level(
            "A model in use is no longer trained. Balance matters less then, because no expert has to learn.",
            "Training has noise, a capacity limit and mechanisms that compare the tokens of a batch; inference has "
            "none of them. So the load can differ between the two.",
            "Expert choice and Sinkhorn look at a batch; a token that comes alone is routed by the router's own top-k, "
            "which nothing has balanced. Here 512 held-out tokens are routed that way every ten steps.",
        ),
        see=("held-out", "expert choice", "Sinkhorn", "distribution shift"),
    ),
)  # fmt: skip
"""In learning order."""
