"""Hand-written questions for practitioners."""

from __future__ import annotations

from moe_sim.teaching.quiz.question import Option, Question, Sheet

QUESTIONS = (
    Question("near-one", "practitioner", ("load-balancing loss", "load"), Sheet(
        "The load-balancing loss of eight experts is 1.004. What does that tell you about the load?",
        Option("Nothing: one expert may take 99.8\u00a0% of the tokens",
               "With tiny logits P is nearly uniform, so E·Σ f·P is about 1 whatever f is. Always read the load too."),
        (
            Option("It is even to within 0.4\u00a0%",
                   "That would hold only if P were as lopsided as f. P may be flat while f is not."),
            Option("The loss must come from another tool; the smallest value is 1",
                   "1 is not the smallest value: f = (0.6, 0.4) with P = (0.31, 0.69) gives 0.924."),
        ),
    )),
    Question("below-one", "practitioner", ("load-balancing loss", "importance"), Sheet(
        "Two experts, f = (0.6, 0.4), P = (0.31, 0.69). What is the load-balancing loss?",
        Option("0.924",
               "2 · (0.6 · 0.31 + 0.4 · 0.69) = 2 · 0.462. Below 1, because the router prefers the busier expert "
               "less."),
        (
            Option("1", "1 is the value at balance, but not a floor."),
            Option("0.462", "That is Σ f·P; the factor E = 2 is missing."),
            Option("1.04", "That is 2 · (0.6² + 0.4²), f times itself."),
        ),
    )),
    Question("why-both", "practitioner", ("load", "importance", "argmax"), Sheet(
        "Why does the load-balancing loss multiply f by P instead of using f alone?",
        Option("f comes from an argmax and has no gradient; P carries it", "f aims the push, and P passes it on."),
        (
            Option("f is too noisy", "It is noisy, but the reason is that it cannot be differentiated."),
            Option("P alone would be even better",
                   "P can be gamed: 0.251 against three times 0.2497 looks uniform, yet every token goes to the first "
                   "expert."),
            Option("To make the value 1 at balance", "The factor E does that."),
        ),
    )),
    Question("starting-alpha", "practitioner", ("α",), Sheet(
        "You add a load-balancing loss to a training run. Which α is a sensible starting value?",
        Option("0.01", "0.01 to 0.1 works in this lab, and Switch uses 0.01. Then watch load and task loss."),
        (
            Option("0", "That means no balancing at all."),
            Option("1", "Ten times what works here: routing becomes even but ignores the token."),
            Option("The inverse of the number of experts",
                   "The loss already carries the factor E; it is 1 at balance for any E."),
        ),
    )),
    Question("too-large", "practitioner", ("over-balanced", "specialization"), Sheet(
        "The load-balancing loss keeps falling, the task loss has stopped falling, and the load is even. What is the "
        "likely cause?",
        Option("α is too large",
               "Routing has become even but ignores the token, and specialization is lost. Lower α."),
        (
            Option("The router has collapsed", "Then the load would not be even."),
            Option("Capacity is too large", "A larger capacity changes nothing while the load is even."),
            Option("Top-k is too large", "A larger k balances by itself, but it does not stop the task from learning."),
        ),
    )),
    Question("top-2-labels", "practitioner", ("top-k", "healthy band"), Sheet(
        "Top-2 of eight experts. Every expert has a load f of 12.5\u00a0%. Is the router balanced?",
        Option("Yes: f is a share of the choices, and the even share is 1/E",
               "f sums to 1 for any k. Each expert sees a quarter of the tokens."),
        (
            Option("No: the even share would be k/E, 25\u00a0%",
                   "25\u00a0% is the share of the tokens. f is a share of the choices."),
            Option("No: with top-2 two experts must dominate",
                   "Every token has two experts, but not always the same two."),
        ),
    )),
    Question("cap-without-alpha", "practitioner", ("capacity factor", "dropped token"), Sheet(
        "A run on the Topics task has α = 0 and a capacity factor of 1, with overflow dropped. What happens?",
        Option("Two thirds of the tokens are dropped and the task loss is higher",
               "67\u00a0% dropped, task loss 2.594 against 2.462 without a limit: the limit balances by dropping "
               "tokens."),
        (
            Option("The load becomes even and nothing is dropped",
                   "The limit does not teach the router to choose other experts."),
            Option("The same as without a limit", "A collapsed router overflows, so the limit acts at once."),
        ),
    )),
    Question("frozen-and-shifted", "practitioner", ("distribution shift", "freeze"), Sheet(
        "A balanced router is frozen, then rare topics become common. What can happen?",
        Option("Experts that own those topics are overloaded",
               "Load follows the data. The loss balanced only the training batches."),
        (
            Option("Nothing: a balanced router stays balanced", "It was balanced only for the old mix of topics."),
            Option("The load-balancing loss corrects it", "A frozen run learns nothing, from any loss."),
        ),
    )),
    Question("lumped", "practitioner", ("lumped loss", "load-balancing loss"), Sheet(
        "A model has eight layers of eight experts, top-1. Every layer sends all tokens to one expert, each layer to "
        "another one. What does the load-balancing loss of transformers read?",
        Option("1, as at perfect balance",
               "It takes f and P as means over the layers, and those are even. Each layer's own loss would be 8."),
        (
            Option("8", "That is each layer's own loss, and their mean. transformers averages the layers first."),
            Option("64", "Losses of layers are averaged, not added up, and each is at most 8."),
            Option("0", "E·Σ f·P with even f and P is 1."),
        ),
    )),
)  # fmt: skip
