"""Router noise, and why it does not prevent collapse here."""

from __future__ import annotations

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import percent
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import dead, first_even_stretch, first_move, mean, number, token_share


def _noise_criteria(history: History, config: RunConfig) -> list[Criterion]:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    left_alone = history.initial_config.aux_loss_coef == 0
    noise = history.column("router_noise_std", max(0, at - 200), at)
    noisy = left_alone and len(noise) == 200 and bool((noise >= 0.999).all())
    share = token_share(history, at)
    even_by = None if rescue is None else first_even_stretch(history, at)
    kept_noise = rescue is not None and bool((history.column("router_noise_std", at) >= 0.999).all())
    return [
        Criterion(
            "At α = 0, the router has Gaussian noise of σ ≥ 1 for 200 steps.",
            noisy,
            f"σ = {number(mean(history, 'router_noise_std', at))}",
        ),
        Criterion(
            "One expert still takes more than half of the tokens.",
            noisy and share > 0.5,
            f"{percent(share)} at step {at}",
        ),
        Criterion(
            "With the noise still on, α leads to 20 steps in a row without a dead expert.",
            noisy and kept_noise and even_by is not None,
            f"{number(dead(history), 0)} dead now" if even_by is None else f"by step {even_by}",
        ),
    ]


def _noise_conclusion(history: History, config: RunConfig) -> Paragraphs:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    return (
        f"At step {at} one expert had {percent(token_share(history, at))} of the tokens in spite of noise with σ = "
        f"{number(mean(history, 'router_noise_std', at), 1)}: the largest logit had grown to "
        f"{number(mean(history, 'router_logit_max', at), 1)}.",
        f"It took α = {config.aux_loss_coef:g} to revive the others. Specialization is "
        f"{history.last('specialization'):.2f}: noise blurs which expert gets which token. This is a result for this "
        "task, not a law; it holds with an even and with a lopsided start.",
    )


NOISE = Lesson(
    slug="noise",
    title="Does noise prevent collapse?",
    goal="Train at α = 0 with Gaussian noise of σ ≥ 1 for 200 steps and see one expert still take more than half of "
    "the tokens. Then, with the noise on, use α to bring all experts back.",
    tab="router",
    knobs=("router_noise", "noise_std", "aux_loss_coef"),
    look_for=(
        "Utilization in the first steps: noise does spread the early choices.",
        "Router logits: the largest one grows past σ, and from then on the noise hardly changes a choice.",
        "After you raise α, the logits shrink, but with the noise on, territories on the map stay blurred.",
    ),
    story={
        "beginner": (
            "A little randomness is often said to keep a router from settling on one expert. Try it: this is an "
            "experiment, and the result is not what many texts say.",
        ),
        "practitioner": (
            "Noise is added to the logits in training only, so a token sometimes goes to its second choice. But on "
            "average the favourite stays the favourite and gets most of the gradient, so its lead grows until the "
            "noise no longer matters.",
            "In this task more noise does not help either; it only makes the task harder to learn. Treat noise as "
            "exploration on top of a balancing mechanism, not as a replacement for one.",
        ),
        "expert": (
            "Noisy top-k (Shazeer et al. 2017): H = x W_g + ε · softplus(x W_noise), ε ~ N(0, 1), always together with "
            "importance and load losses. V-MoE fixes σ = 1/E; Switch multiplies the router's input by "
            "U(1 − ε, 1 + ε).",
            "For two experts with a logit gap Δ, the runner-up wins with probability Φ(−Δ / (σ√2)). Here Δ has the "
            "same sign for nearly all tokens, because it comes from the direction they share, so noise slows the "
            "feedback but does not change its direction.",
        ),
    },
    hint="Reset. In the group Noise choose gaussian and strength 1. Train to step 250, then set α to 0.1.",
    criteria=_noise_criteria,
    conclude=_noise_conclusion,
    intended_start={"router_noise": "gaussian", "noise_std": 1.0},
    intended=(Event(250, {"aux_loss_coef": 0.1}),),
    intended_steps=400,
)
