"""Hand-written questions for beginners."""

from __future__ import annotations

from moe_sim.teaching.quiz.question import Option, Question, Sheet

QUESTIONS = (
    Question("why-collapse", "beginner", ("collapse", "feedback loop"), Sheet(
        "Nothing balances a router, and after a few hundred steps one expert takes nearly every token. Why?",
        Option("Being chosen makes an expert better, and being better makes it chosen",
               "A small head start grows: more tokens, more learning, more tokens."),
        (
            Option("That expert was built with more hidden units", "All experts have the same size."),
            Option("The data hold one kind of token only",
                   "The twelve topics are all still there. The router stopped telling them apart."),
            Option("The learning rate is too small", "It happens at ordinary learning rates."),
        ),
    )),
    Question("why-a-problem", "beginner", ("collapse", "active parameters"), Sheet(
        "What is bad about one of eight experts doing all the work?",
        Option("Memory is paid for eight experts, and only one has learned anything",
               "The model is as good as one expert and as large as eight. Machines that hold the others wait."),
        (
            Option("Each token now passes through more weights", "A top-1 token passes through one expert, as before."),
            Option("The program stops with an error",
                   "It does not: collapse is silent, and the task loss goes on falling."),
        ),
    )),
    Question("even-share", "beginner", ("load", "top-k"), Sheet(
        "Eight experts, top-1. Which load does each expert have if all are alike?",
        Option("12.5\u00a0%", "One eighth: 1/E."),
        (
            Option("8\u00a0%", "That is the number of experts, not its inverse."),
            Option("50\u00a0%", "Above that an expert counts as having taken over: the usual definition of collapse."),
            Option("100\u00a0%", "That is what all loads sum to."),
        ),
    )),
    Question("what-does-alpha-do", "beginner", ("α", "load-balancing loss"), Sheet(
        "What happens when α is raised?",
        Option("Uneven routing costs more, so the router is pushed towards even loads",
               "α is the weight of the balancing loss beside the task loss."),
        (
            Option("Each token goes to more experts", "That is top-k."),
            Option("Experts refuse tokens over a limit", "That is capacity, a hard limit. α is a soft push."),
            Option("Experts learn faster", "That is the learning rate."),
        ),
    )),
    Question("is-even-best", "beginner", ("healthy band", "over-balanced"), Sheet(
        "Eight experts have loads between 10\u00a0% and 15\u00a0%. What should be done?",
        Option("Nothing: this is a good state", "Up to twice as much for the busiest as for the idlest is healthy."),
        (
            Option("Raise α until all have 12.5\u00a0%",
                   "Perfect balance is not the goal. A very large α makes routing even and blind to the token."),
            Option("Remove the expert with 10\u00a0%", "It works and learns; its tokens may simply be rarer."),
        ),
    )),
    Question("silent", "beginner", ("task loss", "collapse"), Sheet(
        "Which curve shows a collapse first and most clearly?",
        Option("The load of each expert", "It shows directly who gets the tokens."),
        (
            Option("The task loss", "It keeps falling and looks healthy: one expert learns too."),
            Option("The learning rate", "That is a setting, it does not react to anything."),
        ),
    )),
    Question("dropped-where", "beginner", ("dropped token", "residual path"), Sheet(
        "An expert is full and one more token arrives, with overflow set to drop. What becomes of the token?",
        Option("It passes the layer unchanged, on the residual path",
               "It only misses what the expert would have added."),
        (
            Option("It is deleted from the text", "Tokens are never lost; later layers still see it."),
            Option("It waits for the next step", "A step ends with all its tokens. Nothing is kept over."),
            Option("It goes to the next-best expert", "That is the other setting, reroute."),
        ),
    )),
)  # fmt: skip
