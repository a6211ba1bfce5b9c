"""The experiment of the course: four interventions side by side, each predicted first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_sim.config.words import percent
from moe_sim.history.history import History
from moe_sim.teaching.course.lesson import ComparisonLesson, Criterion, Experiment, Paragraphs

JUDGED_AT = 300
"""Steps after which every run is judged."""
AS_IT_IS, FROZEN, BLIND, COPIES = range(4)

EXPERIMENTS = (
    Experiment("As it is", "Nothing is changed. Does one expert take more than half of the tokens?"),
    Experiment(
        "Experts frozen", "No expert ever learns anything; only the router and the head do. Does one take over?"
    ),
    Experiment(
        "Router blind",
        "The experts learn, but the router cannot see the direction that all tokens share. Does one expert take over?",
    ),
    Experiment("Copies", "All eight experts begin as copies, so none is better than another. Does one take over?"),
)


@dataclass(frozen=True)
class Outcome:
    """How one run ended."""

    half_at: int | None
    """The first step with more than half of the tokens, smoothed, on one expert; None if there is none."""
    share: float
    """The busiest expert's smoothed share of the tokens at step `JUDGED_AT`."""

    @property
    def collapsed(self) -> bool:
        return self.half_at is not None

    @classmethod
    def of(cls, history: History) -> Outcome:
        share = history.layer().column("smoothed_load", 0, JUDGED_AT).max(1) * history.initial_config.top_k
        above = np.flatnonzero(share > 0.5)
        return cls(int(above[0]) + 1 if len(above) else None, float(share[-1]))

    def in_words(self) -> str:
        if self.half_at is None:
            return f"no expert had half of the tokens by step {JUDGED_AT}; the busiest has {percent(self.share)}"
        return f"one expert first had half of the tokens at step {self.half_at}"


def _criteria(histories: Sequence[History], predictions: Sequence[bool | None]) -> list[Criterion]:
    made = sum(one is not None for one in predictions)
    done = min((len(history) for history in histories), default=0)
    return [
        Criterion("Predict all four.", made == len(EXPERIMENTS), f"{made} of {len(EXPERIMENTS)}"),
        Criterion(f"Run the four experiments for {JUDGED_AT} steps.", done >= JUDGED_AT, f"{done} steps"),
    ]


def _verdicts(histories: Sequence[History], predictions: Sequence[bool | None]) -> list[Criterion]:
    verdicts = []
    for experiment, history, prediction in zip(EXPERIMENTS, histories, predictions, strict=True):
        outcome = Outcome.of(history)
        said = "it collapses" if prediction else "it stays in use"
        verdicts.append(
            Criterion(f"{experiment.title}: {outcome.in_words()}.", prediction == outcome.collapsed, f"you said {said}")
        )
    return verdicts


def _conclude(histories: Sequence[History], predictions: Sequence[bool | None]) -> Paragraphs:
    as_it_is, frozen, blind, copies = (Outcome.of(history) for history in histories)
    paragraphs = []
    if as_it_is.collapsed and frozen.collapsed:
        paragraphs.append(
            f"Without any learning in the experts the router collapsed too: half of the tokens at step "
            f"{frozen.half_at}, compared with {as_it_is.half_at}. So the textbook's loop, in which a busy expert "
            "gets better, is not what starts the collapse here."
        )
    elif as_it_is.collapsed:
        paragraphs.append(
            "With frozen experts your router did not collapse, so in this run learning was needed, as the textbook "
            "says. That is rare here: try another seed."
        )
    if as_it_is.collapsed and not blind.collapsed:
        paragraphs.append(
            f"Blind to the direction that all tokens share, the router kept every expert in use: the busiest has "
            f"{percent(blind.share)}. So the loop runs through the router. One expert's output happens to help the "
            "average token, the gradient raises its logit along the shared direction, and that raises it for all "
            "tokens at once."
        )
    if copies.collapsed:
        paragraphs.append(
            f"Copies collapsed at step {copies.half_at}, although no expert was better than another at the start. "
            "A chance asymmetry does grow, but not because one expert was more skilled."
        )
    if not as_it_is.collapsed:
        paragraphs.append("Unchanged, this router did not collapse. That is rare here: try another seed.")
    paragraphs.append(
        "Learning still matters: it completes the collapse and makes it last. And all of this holds for this model "
        "and this task; in another model the other loop may lead."
    )
    return tuple(paragraphs)


WHICH_LOOP = ComparisonLesson(
    slug="which-loop",
    title="Which loop is it?",
    goal=f"Predict how four experiments end, then run all four side by side for {JUDGED_AT} steps.",
    look_for=(
        "Run A is unchanged. Each of the others cuts one link of the textbook's loop.",
        "All four see the same tokens in the same order.",
        "Which runs shoot up at about the same step as run A?",
        "Task loss: a run can be balanced and learn well, or collapse and still learn.",
    ),
    story={
        "beginner": (
            "The textbook says: an expert that gets more tokens practises more, becomes better, and so gets still more "
            "tokens. It is a hypothesis, so test it.",
            "Each experiment takes one part of that story away. If the router collapses all the same, that part is not "
            "the cause.",
        ),
        "practitioner": (
            "More tokens → more gradient → a better expert → more tokens. If this loop drives the collapse, then "
            "experts that cannot learn must stop it, and experts that begin equal should delay it.",
            "The rival hypothesis: the loop runs through the router alone. All tokens share a direction, so one update "
            "along it changes an expert's logit for all tokens at once.",
        ),
        "expert": (
            "Interventions decide what correlations cannot: freeze the experts (∂L/∂θ_e = 0), project the router off "
            "the mean token m (W ← W − m mᵀ W after every update), or start from copies, as sparse upcycling does "
            "(Komatsuzaki et al. 2022).",
            "With copies E_i(x) is the same for all i at step 0, so ⟨g, E_e(x)⟩ favours nobody at first. What remains "
            "are the argmax and the router's own gradient.",
        ),
    },
    hint="There is no wrong answer here. Choose what you expect, then press Run the four experiments.",
    comparison="which-loop",
    experiments=EXPERIMENTS,
    criteria=_criteria,
    verdicts=_verdicts,
    conclude=_conclude,
)
