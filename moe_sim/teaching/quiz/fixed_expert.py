"""Hand-written questions for experts."""

from __future__ import annotations

from moe_sim.teaching.quiz.question import Option, Question, Sheet

QUESTIONS = (
    Question("all-on-two", "expert", ("convention", "huggingface"), Sheet(
        "E = 8, top-2, and all tokens go to the same two experts with P of one half each. What is the load-balancing "
        "loss in the huggingface convention?",
        Option("8", "f counts all choices over T: 1 on both. 8 · (½ + ½) = 8 = E."),
        (
            Option("4", "That is per_choice, E/k: there f is one half on both."),
            Option("2", "That is the balanced value of this convention, k."),
            Option("1", "That is the balanced value of the other two conventions."),
        ),
    )),
    Question("porting-alpha", "expert", ("convention", "α"), Sheet(
        "You move a top-2 recipe with α = 0.01 from the huggingface convention to per_choice. Which α pushes the "
        "router as hard as before?",
        Option("0.02",
               "The huggingface value is k times the per_choice one, and so is its gradient: α has to be k times as "
               "large."),
        (
            Option("0.01", "The same α would push half as hard."),
            Option("0.005", "That is the wrong direction: the per_choice value is the smaller one."),
            Option("0.08", "That is α · E; the factor between the two is k."),
        ),
    )),
    Question("renormalize-one", "expert", ("renormalize", "combine weight"), Sheet(
        "Why is renormalizing the kept weights not allowed for top-1?",
        Option("The weight would be the constant 1, and the router would lose its task gradient",
               "p/p = 1 for any p: the router could change the task loss only through the choice itself, which has no "
               "gradient."),
        (
            Option("It would divide by zero", "The largest probability is at least 1/E."),
            Option("It would unbalance the loads", "It changes weights, not choices."),
            Option("Mixtral does not do it",
                   "Mixtral does renormalize, with two experts per token."),
        ),
    )),
    Question("bias-where", "expert", ("selection bias", "combine weight"), Sheet(
        "In the auxiliary-loss-free method, where does the bias b_i enter?",
        Option("In the scores that select, and nowhere else",
               "The combine weight stays the router's own probability, so the bias distorts no output and needs no "
               "gradient."),
        (
            Option("In the logits before the softmax, so in the weights too", "That would distort the outputs."),
            Option("In the loss, weighted by α",
                   "There is no loss: the bias moves by the sign of the excess after each step."),
            Option("In the capacity of each expert", "Capacity is the same for all experts."),
        ),
    )),
    Question("gaming-p", "expert", ("importance loss", "argmax"), Sheet(
        "P = (0.251, 0.2497, 0.2497, 0.2497) for every token. What are the importance loss and the load?",
        Option("The loss is nearly 0, and one expert has all the load",
               "CV² of P is 5·10⁻⁶, yet the argmax is always the first expert: preference is not load."),
        (
            Option("The loss is nearly 0, and the load is even",
                   "The argmax is not random: the largest value always wins."),
            Option("The loss is large, since one expert has everything", "It ignores where tokens went."),
        ),
    )),
    Question("alpha-is-powerless", "expert", ("saturation", "z-loss"), Sheet(
        "Router logits have grown to 40 and most experts are dead. α = 0.1 changes nothing. Why?",
        Option("Probabilities are 0 or 1, so hardly any gradient passes through the softmax",
               "A gap of 15 is a probability of 3·10⁻⁷. A z-loss from the start would have kept the logits small."),
        (
            Option("α is too small", "Any multiple of almost nothing is almost nothing."),
            Option("The load-balancing loss is near 1 here", "It is large. What is missing is its gradient."),
            Option("Dead experts have no weights left", "They still have their initial weights."),
        ),
    )),
    Question("expert-choice-price", "expert", ("expert choice", "unserved token"), Sheet(
        "Expert choice is perfectly even. What did it cost on the Topics task?",
        Option("About 22\u00a0% of the tokens had no expert, and inference was not even",
               "22 ± 7\u00a0% were unserved; with tokens routed one by one the busiest expert got 0.34 of them. Means "
               "of ten seeds."),
        (
            Option("Nothing: it is balanced by construction", "The experts are balanced, the tokens are not."),
            Option("Half of the experts died", "Each picks equally many tokens, so none can die."),
        ),
    )),
    Question("noise-alone", "expert", ("noisy top-k", "router noise"), Sheet(
        "Gaussian router noise of σ = 1 and α = 0 on the Topics task, ten seeds. What was the result?",
        Option("One expert takes everything on all ten",
               "That is this task, not a law. Noise shuffles experts whose logits lie within about σ of each other, "
               "and the gap grows beyond that."),
        (
            Option("Loads stay even, since noise explores", "It explores at the start, but the feedback loop wins."),
            Option("About half of the seeds collapse", "All ten did."),
        ),
    )),
)  # fmt: skip
