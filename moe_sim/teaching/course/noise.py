"""Lesson 8: noise in the router, and what it does not do here."""

from __future__ import annotations

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import Criterion, Lesson, Paragraphs
from moe_sim.teaching.course.measures import dead, first_even_stretch, first_move, mean, number, percent, token_share


def _noisy(history: History, config: RunConfig) -> list[Criterion]:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    alone = history.initial_config.aux_loss_coef == 0
    noise = history.column("router_noise_std", max(0, at - 200), at)
    noisy = alone and len(noise) == 200 and bool((noise >= 0.999).all())
    share = token_share(history, at)
    even = None if rescue is None else first_even_stretch(history, at)
    kept = rescue is not None and bool((history.column("router_noise_std", at) >= 0.999).all())
    return [
        Criterion(
            "At α = 0, the router has Gaussian noise of σ ≥ 1 for 200 steps.",
            noisy,
            f"σ = {number(mean(history, 'router_noise_std', at))}",
        ),
        Criterion(
            "One expert takes more than half of the tokens all the same.",
            noisy and share > 0.5,
            f"{percent(share)} at step {at}",
        ),
        Criterion(
            "With the noise still on, α brings 20 steps in a row without a dead expert.",
            noisy and kept and even is not None,
            f"{number(dead(history), 0)} dead now" if even is None else f"by step {even}",
        ),
    ]


def _after_noise(history: History, config: RunConfig) -> Paragraphs:
    rescue = first_move(history, "aux_loss_coef")
    at = len(history) if rescue is None else rescue.step
    return (
        f"At step {at} one expert had {percent(token_share(history, at))} of the tokens although the noise was as "
        f"large as σ = {number(mean(history, 'router_noise_std', at), 1)}: the largest logit had grown to "
        f"{number(mean(history, 'router_logit_max', at), 1)}.",
        f"It took α = {config.aux_loss_coef:g} to revive the others. Specialization is "
        f"{history.last('specialization'):.2f}: noise blurs who gets what. This is what happens in this task, not a "
        "law; where routing starts out less lopsided, noise may do more.",
    )


NOISE = Lesson(
    slug="noise",
    title="Does noise prevent collapse?",
    goal="Train at α = 0 with Gaussian noise of σ ≥ 1 for 200 steps and see one expert take more than half all the "
    "same; then, with the noise on, let α bring back all.",
    tab="router",
    knobs=("router_noise", "noise_std", "aux_loss_coef"),
    look_for=(
        "Utilization in the first steps: noise does spread early choices.",
        "Router logits: the largest one grows past σ, and from there the noise hardly changes a choice.",
        "After α is raised: the logits shrink, and with the noise on, territories on the map stay blurred.",
    ),
    story={
        "beginner": (
            "It is often said that a little randomness keeps a router from falling in love with one expert. Try it: "
            "this is an experiment, and the outcome is not what many texts say.",
        ),
        "practitioner": (
            "Noise is added to the logits in training only, so that a token sometimes meets its second choice. But the "
            "favourite is still the favourite on average, gets most of the gradient, and its lead grows until the "
            "noise no longer matters.",
            "Larger noise does not rescue it either in this task; it makes the task harder to learn. Treat noise as "
            "exploration on top of a balancing mechanism, not as one.",
        ),
        "expert": (
            "Noisy top-k (Shazeer et al. 2017): H = x W_g + ε · softplus(x W_noise), ε ~ N(0, 1), always together with "
            "importance and load losses. V-MoE fixes σ = 1/E; Switch multiplies the router's input by "
            "U(1 − ε, 1 + ε).",
            "For two experts with a logit gap Δ, the runner-up wins with probability Φ(−Δ / (σ√2)). Here Δ has the "
            "same sign for nearly all tokens, because it comes from the direction they share, so noise lowers the rate "
            "of the feedback but not its direction.",
        ),
    },
    hint="Reset; in the group Noise choose gaussian and strength 1; train to step 250; then set α to 0.1.",
    criteria=_noisy,
    conclude=_after_noise,
    intended_start={"router_noise": "gaussian", "noise_std": 1.0},
    intended=(Event(250, {"aux_loss_coef": 0.1}),),
    intended_steps=400,
)
