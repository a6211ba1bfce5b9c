"""Hand-written questions for beginners."""

from __future__ import annotations

from moe_sim.teaching.quiz.question import Option, Question, Sheet

QUESTIONS = (
    Question("why-collapse", "beginner", ("collapse", "feedback loop"), Sheet(
        "A router is trained without balancing. After a few hundred steps one expert takes nearly every token. Why?",
        Option("A small lead grows: an expert that is chosen is preferred even more the next time",
               "In textbooks because it learns more. In this lab mainly because the router raises its favourite for "
               "all tokens at once; the lesson Which loop is it? tests that."),
        (
            Option("That expert was built with more hidden units", "All experts have the same size."),
            Option("The data contain only one kind of token",
                   "All twelve topics are still there. The router has stopped telling them apart."),
            Option("The learning rate is too small", "It also happens at ordinary learning rates."),
        ),
    )),
    Question("why-a-problem", "beginner", ("collapse", "active parameters"), Sheet(
        "What is wrong with one of eight experts doing all the work?",
        Option("You pay for the memory of eight experts, and only one has learned anything",
               "The model is as good as one expert and as large as eight. The devices of the others wait."),
        (
            Option("Each token now passes through more weights", "A top-1 token passes through one expert, as before."),
            Option("The program stops with an error",
                   "It does not: collapse is silent, and the task loss keeps falling."),
        ),
    )),
    Question("even-share", "beginner", ("load", "top-k"), Sheet(
        "Eight experts, top-1. What is the load of each expert if all are equal?",
        Option("12.5\u00a0%", "One eighth: 1/E."),
        (
            Option("8\u00a0%", "That is the number of experts, not its inverse."),
            Option("50\u00a0%", "That is the usual threshold of collapse: an expert above it has taken over."),
            Option("100\u00a0%", "That is the sum of all loads."),
        ),
    )),
    Question("what-does-alpha-do", "beginner", ("α", "load-balancing loss"), Sheet(
        "What happens when you raise α?",
        Option("Uneven routing costs more, so the router is pushed towards even loads",
               "α is the weight of the load-balancing loss in the total loss."),
        (
            Option("Each token goes to more experts", "That is top-k."),
            Option("Experts refuse tokens above a limit", "That is capacity, a hard limit. α is a soft push."),
            Option("Experts learn faster", "That is the learning rate."),
        ),
    )),
    Question("is-even-best", "beginner", ("healthy band", "over-balanced"), Sheet(
        "Eight experts have loads between 10\u00a0% and 15\u00a0%. What should you do?",
        Option("Nothing: this is a good state", "It is healthy if each gets between half of and twice an even share."),
        (
            Option("Raise α until all have 12.5\u00a0%",
                   "Perfect balance is not the goal. With a very large α, routing is even but ignores the token."),
            Option("Remove the expert with 10\u00a0%", "It works and learns; its tokens may simply be rarer."),
        ),
    )),
    Question("silent", "beginner", ("task loss", "collapse"), Sheet(
        "Which curve shows a collapse earliest and most clearly?",
        Option("The load of each expert", "It shows directly which experts get the tokens."),
        (
            Option("The task loss", "It keeps falling and looks healthy: one expert learns too."),
            Option("The learning rate", "That is a setting. It does not react to anything."),
        ),
    )),
    Question("dropped-where", "beginner", ("dropped token", "residual path"), Sheet(
        "An expert is full and one more token arrives, with overflow set to drop. What happens to the token?",
        Option("It passes the layer unchanged, along the residual path",
               "It only misses the expert's contribution."),
        (
            Option("It is deleted from the text", "Tokens are never lost; later layers still see it."),
            Option("It waits for the next step", "A step processes all its tokens. Nothing is queued."),
            Option("It goes to the next-best expert", "That is the other overflow setting, reroute."),
        ),
    )),
)  # fmt: skip
