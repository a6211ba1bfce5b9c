"""A model of one's own: from the first hook to the diagnosis of a known mistake."""

from __future__ import annotations

import numpy as np

from moe_sim.history.trace import TraceHistory
from moe_sim.teaching.course.lesson import Answer, Paragraphs, TraceLesson
from moe_sim.tracing.examples import ONE_PER_TOKEN, RESCUED

CODE = """import moe_sim, torch

routers = [weight for name, weight in model.named_parameters()
           if name.endswith(".gate.weight")]
with moe_sim.watch(model, "runs/first") as trace:  # any torch model
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        gradient = torch.cat([weight.grad.flatten() for weight in routers]).norm()
        trace.step(task_loss=loss.item(), router_gradient=gradient)
        optimizer.step(); optimizer.zero_grad()"""


def _conclusion(history: TraceHistory, other: TraceHistory) -> Paragraphs:
    entropy, gradient = history.by_layer("router_entropy"), history.column("router_gradient")
    learned, felt = other.by_layer("router_entropy"), other.column("router_gradient")
    return (
        f"In {len(history)} steps the entropy of these routers never fell below {entropy.min():.2f} of 1, and their "
        f"gradient stayed below {_rounded_up(gradient.max())}: rounding errors. With two experts for each token, the "
        f"mean entropy falls to {learned.mean(1).min():.2f}, and the gradient is {np.median(felt):.2g}.",
        "Mixtral divides the weights of a token's experts by their sum. With one expert that is p / p = 1, whatever "
        "the router says, so nothing the router does changes the output. The tokens still go somewhere: to wherever "
        "the weights happened to point when training began.",
        "The mend is a setting: num_experts_per_tok=2, or a model that keeps the probability as the weight, as the "
        "Switch Transformer does. The page Your model warns of this by itself, before any chart shows it.",
    )


def _rounded_up(value: float) -> str:
    """A power of ten above a value: 10⁻⁸."""
    exponent = next(power for power in range(20) if value >= 10.0**-power) - 1
    return f"10{str(-exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


YOUR_MODEL = TraceLesson(
    slug="your-own-model",
    title="Your own model",
    goal="Two traces of transformers' Mixtral, watched with this code, on the same text. In one, the routers "
    "learn. In the other they cannot, and no error says so. Compare the first 120 steps and name the mistake.",
    code=CODE,
    trace=ONE_PER_TOKEN,
    beside=RESCUED,
    titles=("Left: what is wrong here?", "Right: a model that learns"),
    figures=("router", "router_gradient", "utilization_over_time", "specialization", "task_loss"),
    question="Left: why do these routers not learn?",
    answers=(
        Answer(
            "The load-balancing loss is too weak.",
            "It is off in both, at first, and on the right the routers learn all the same. It would even out the load, "
            "but a router that hears nothing of the task has nothing else to learn.",
        ),
        Answer(
            "With one expert per token, its weight is always 1: the task sends the router no gradient.",
            "Yes. The router's gradient shows it, and so does the entropy, which stays where it began.",
            right=True,
        ),
        Answer(
            "The learning rate is too low for the routers.",
            "Both models have the same learning rate, and a rate cannot help: look at the router's gradient.",
        ),
        Answer(
            "The routers have collapsed.",
            "A collapsed router is certain: its entropy is low. Here it is undecided, and stays so.",
        ),
    ),
    look_for=(
        "Router: the entropy of the router's probabilities. A router that learns becomes decided; this one does not.",
        "router gradient: the length of the gradient of all the routers' weights, logged by the training script.",
        "Utilization over time: uneven, but for no reason. Nothing pulls it anywhere.",
        "Task loss: it falls in both. The experts learn, whatever the router does.",
    ),
    story={
        "beginner": (
            "So far you have watched a model made for this page. The same charts work for any model: one line of "
            "Python listens to its routers while it trains, and this page reads along.",
            "Real mistakes rarely end in an error message. The loss falls, the run finishes, and the router has "
            "learned nothing. You see it only if you look at the router.",
        ),
        "practitioner": (
            "moe_sim.watch hooks into the modules that receive the experts' indices, so what it counts is what "
            "happened, with biases, groups and padding. It costs one small copy per record.",
            "Log what else you know beside it: losses, the learning rate and, as here, the norm of the routers' "
            "gradient. It is the cheapest test of whether a router can learn at all.",
        ),
        "expert": (
            "The gradient of the task reaches a router only through the combine weights. Softmax over all experts, "
            "then top-k without renormalization, keeps it for any k; renormalized over the chosen ones, it vanishes at "
            "k = 1, since ∂(p/p)/∂p = 0. The Switch Transformer keeps the probability (Fedus et al. 2021).",
            "transformers' Mixtral and MiniMax always renormalize; Qwen3-MoE and OLMoE do if norm_topk_prob is set. "
            "What is left for the router then is the load-balancing loss, if there is any, and weight decay.",
        ),
    },
    hint="Compare the two charts of the router's gradient, and their scales.",
    conclude=_conclusion,
)
