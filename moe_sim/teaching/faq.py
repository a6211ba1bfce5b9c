"""Frequently asked questions, with an answer for each level of reader.

Numbers come from the tables in README.md: the Topics task, eight experts, ten seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_sim.teaching.level import Level, by_level
from moe_sim.teaching.other_names import KNOB_NAMES, METRICS


@dataclass(frozen=True)
class Entry:
    """A question and its answers. Each answer is complete in itself."""

    key: str
    question: str
    answers: dict[Level, str] = field(hash=False)
    terms: tuple[str, ...]
    """Further reading: names in `moe_sim.teaching.terms`."""


_NAMES = dict(KNOB_NAMES)
_METRICS = {metric.name: metric for metric in METRICS}

FAQ: tuple[Entry, ...] = (
    Entry(
        "what-is-collapse", "What is expert collapse?",
        by_level(
            "One or two experts get nearly all tokens, and the others stop learning because they are never used.",
            "A feedback loop. In textbooks it runs through the experts: more tokens, more gradient, a better expert, "
            "more tokens. In this lab it runs mainly through the router. The usual definition is one expert with more "
            "than half of the tokens. It is silent: the task loss keeps falling.",
            "Positive feedback, amplified by the router's argmax. Its strength depends on the data: on the Topics task "
            "all ten seeds collapse at α = 0 (largest load 0.94 on average), and none does once the direction that all "
            "tokens share is removed (0.26) or the router is blind to it (0.21). Freezing the experts does not help "
            "(0.72).",
        ),
        ("collapse", "feedback loop", "shared direction"),
    ),
    Entry(
        "is-uniform-ideal", "Is perfectly uniform routing the ideal?",
        by_level(
            "No. All experts should be in use, but they need not be equal. It is fine if each gets between half of "
            "and twice an even share.",
            "If code is a tenth of the data, its expert should get a tenth of the tokens. On the Topics task the task "
            "loss is lowest for α from 0.01 to 0.1, where the busiest expert still has one and a half to two times "
            "its even share.",
            "Routing that ignores the token also gives a uniform load. At α = 10 the largest load is 0.13 and "
            "specialization 0.31; at α = 0.1 they are 0.18 and 0.70. Task loss is 2.541 against 2.281. Read router "
            "entropy and specialization alongside load.",
        ),
        ("healthy band", "over-balanced", "specialization"),
    ),
    Entry(
        "which-alpha", "Which α should I start with?",
        by_level(
            "0.01. If one expert still takes more than half of the tokens, raise it two- to threefold.",
            "0.01 to 0.1 works in this lab; libraries default to 0.001 to 0.01. Raise it while experts are dead; "
            "lower it when the load is even and the task loss has stopped falling. On the Topics task 0.01 "
            "leaves 1.1 of 8 experts dead on average, 0.03 leaves 0.2, 0.1 none.",
            "α sets a ratio of gradients on the router, so the right value depends on the scale of your task loss and "
            "on the convention: at top-2, 0.01 in the huggingface convention is 0.02 in per_choice. Turn it on from "
            "the start: at step 1,000 the task loss is 1.892 with α = 0.1 from step 0, 2.212 from step 400, and 2.355 "
            "without.",
        ),
        ("α", "convention", "load-balancing loss"),
    ),
    Entry(
        "does-it-cost-quality", "Does the load-balancing loss cost quality?",
        by_level(
            "A little helps, too much hurts.",
            "On the Topics task the task loss falls from 2.462 at α = 0 to 2.214 at α = 0.03 and rises again to 2.541 "
            "at α = 10. That is one task. Balance does not always lower task loss, so watch both.",
            "It costs quality where its gradient opposes the task's, as the cosine of the two on the router shows. The "
            "most even mechanisms are not the best here. The importance loss and Sinkhorn have the lowest task loss "
            "(2.210 and 2.212) with largest loads of 0.20 and 0.19, the selection bias 2.284 with 0.13.",
        ),
        ("load-balancing loss", "cosine", "over-balanced"),
    ),
    Entry(
        "when-capacity", "When should I use a capacity factor?",
        by_level(
            "When memory or time per expert must be limited. It does not replace balancing.",
            "With expert parallelism a step takes as long as its busiest expert, and the capacity bounds that time. "
            "Balance first: a factor of 1 drops 67\u00a0% of the tokens at α = 0, and 17\u00a0% at α = 0.03. Most "
            "models of today are dropless: OLMoE, Mixtral and DeepSeek-V3 have no limit.",
            "A factor of MaxVio + 1 drops nothing, so measure MaxVio first. If overflow is rerouted instead of "
            "dropped, a factor of 1 balances even without a loss: the largest load falls from 0.50 to 0.31, because "
            "the other experts get tokens to learn from. Inference has no capacity limit here, so compare both.",
        ),
        ("capacity factor", "dropped token", "reroute", "expert parallelism"),
    ),
    Entry(
        "loss-near-one", "Why is my load-balancing loss near 1 although one expert takes everything?",
        by_level(
            "Because the loss combines where tokens went with how strongly the router wanted it. If the router has "
            "hardly any preference, the loss is about 1 whatever happens. Look at the load.",
            "E · Σ f·P: with tiny logits P is nearly 1/E for every expert, and f sums to 1. So the loss is about 1.004 "
            "while the argmax sends 99.8\u00a0% to one expert. A value below 1 is possible too: f = (0.6, 0.4) and P = "
            "(0.31, 0.69) give 0.924.",
            "E·Σ f·P is 1 + E·Σ (f − 1/E)(P − 1/E): a flat P makes it 1 for any f, and deviations of opposite sign "
            "push it below 1. A flat P is normal early in training. Also check the convention before comparing: at "
            "top-2 the huggingface value is 2 at balance.",
        ),
        ("load-balancing loss", "load", "importance", "convention"),
    ),
    Entry(
        "top-k-and-collapse", "Does a larger top-k prevent collapse?",
        by_level(
            "It softens it: with top-2 at least two experts stay in use. The price is more work per token.",
            "No expert can get more than 1/k of the choices, and runners-up get gradient too. Without balancing, top-2 "
            "still ends with two experts taking over. Judge by the share of choices against 1/E, never against k/E.",
            "The collapse threshold has to move with k and E, or balanced routing crosses it: at E = 4, k = 2 each "
            "expert sees half of the tokens at balance. Here it lies three sevenths of the way from 1/E to 1/k, and "
            "never above twice the even share.",
        ),
        ("top-k", "collapse", "healthy band"),
    ),
    Entry(
        "does-noise-help", "Does router noise prevent collapse?",
        by_level(
            "Not on the task of this app. It spreads early choices, but the loop is stronger.",
            "Ten seeds at α = 0: the largest load is 1.00 with Gaussian noise of σ = 1/8 or 1 and with learned noise, "
            "0.98 with jitter. That is this task, not a law.",
            "Noise shuffles experts whose logits lie within about σ of each other, and logits grow beyond any fixed σ. "
            "It has another use: the load loss needs it to turn counts into probabilities, which have a gradient.",
        ),
        ("router noise", "noisy top-k", "load loss"),
    ),
    Entry(
        "which-mechanism", "Which balancing mechanism should I choose?",
        by_level(
            "Start with the load-balancing loss at α = 0.01 to 0.1. It is simple, common, and works here.",
            "Losses change the router itself, and their effect lasts in inference. The selection bias needs no loss "
            "and is the most even mechanism that keeps every token (largest load 0.13), if its rate fits the scores. "
            "Expert choice is exactly even but leaves 22\u00a0% of the tokens without an expert here.",
            "It depends on what you cannot give up. For the same routing in inference, take a loss or the bias, not "
            "expert choice or Sinkhorn, whose busiest expert gets 0.34 and 0.28 when tokens come one by one. To leave "
            "the task's gradient alone, take the bias. The importance loss and Sinkhorn have the lowest task loss "
            "here, 2.210 and 2.212; the load-balancing loss at α = 0.03 has 2.214.",
        ),
        ("balancing mechanism", "selection bias", "expert choice", "Sinkhorn"),
    ),
    Entry(
        "what-changes-at-inference", "What changes at inference?",
        by_level(
            "The model no longer learns, so imbalance does less harm. But new data can overload an expert that was "
            "fine.",
            "There is no noise and, here, no capacity limit, and each token is routed by itself. Mechanisms that "
            "compare the tokens of a batch fall back on the router's own top-k: under Sinkhorn the largest load is "
            "0.19 in training and 0.28 in inference.",
            "A loss that balanced training batches promises nothing about other data: freeze a run and shift the "
            "topics to see load follow them. Under expert choice the task loss rises from 2.293 in training to 2.371 "
            "in inference, under Sinkhorn from 2.212 to 2.275.",
        ),
        ("inference", "distribution shift", "freeze"),
    ),
    Entry(
        "too-late", "Can a collapsed router be rescued?",
        by_level(
            "Yes. Set α to 0.1, and the dead experts come back within about 40 steps. The time they lost stays lost.",
            "With α = 0.1 none is dead after 19 to 36 steps, early or late (ten seeds). α = 0.03 takes 21 to 32 steps "
            "from step 100 and 36 to 140 from step 400. The task loss never catches up: at step 1,000 it is 1.892 "
            "with α = 0.1 from the start, 2.107 from step 200 and 2.212 from step 400.",
            "Not if the router is saturated: beyond a gap of about 15 between logits hardly any gradient passes "
            "through the softmax, and α has no effect. Then only a restart helps, with a router z-loss or a lower "
            "learning rate.",
        ),
        ("collapse", "α", "saturation"),
    ),
    Entry(
        "my-own-logs", "How do I see collapse in my own training logs?",
        by_level(
            "Look for the number of tokens per expert. One large value and many near zero mean collapse. The task loss "
            "will not tell you.",
            "Look for a maximum over a mean, which is 1 at balance and E when one expert has everything: "
            f"{_METRICS['max / mean'].elsewhere}. {_METRICS['max violation'].elsewhere} is that minus 1.",
            "Know what is counted before you compare: all choices or first choices, before or after capacity, divided "
            f"by k or not, sample or population standard deviation. The knob is {_NAMES['α (aux_loss_coef)']}. "
            f"{_METRICS['load entropy'].elsewhere}. A load-balancing loss alone proves nothing.",
        ),
        ("load", "MaxVio", "convention"),
    ),
)  # fmt: skip
"""In the order in which readers tend to ask."""
