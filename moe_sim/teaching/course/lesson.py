"""The definition of a lesson: its texts, and a check of the student's own runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe_sim.config.codec import format_value
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History
from moe_sim.history.trace import TraceHistory
from moe_sim.teaching.level import Level

Paragraphs = tuple[str, ...]


@dataclass(frozen=True)
class Criterion:
    """One requirement of a goal, whether the run meets it, and the run's own value."""

    text: str
    met: bool
    value: str


def passed(criteria: list[Criterion]) -> bool:
    """Whether a lesson is passed: it has at least one criterion and all are met."""
    return bool(criteria) and all(criterion.met for criterion in criteria)


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """The texts of a lesson of any kind."""

    slug: str
    title: str
    goal: str
    """States the numbers that the check requires."""
    look_for: Paragraphs
    story: dict[Level, Paragraphs]
    hint: str


@dataclass(frozen=True)
class Reference:
    """A second run, which the student does not see. It has the defaults of the Topics task, with α = 0 until step
    `raised_at` and `aux_loss_coef` from there on."""

    seed: int
    steps: int = 600
    aux_loss_coef: float = 0.03
    raised_at: int = 0


@dataclass(frozen=True, kw_only=True)
class Lesson(Chapter):
    """A goal to reach in a live run, with explanations and the check that it was reached."""

    tab: str
    """The view to open in the dashboard's second row."""
    knobs: tuple[str, ...]
    """The knobs that the student may change. The check fails if any other knob differs from `start` and `plan`."""
    criteria: Callable[..., list[Criterion]]
    """Computes the lesson's criteria from a history of any length and the current configuration."""
    conclude: Callable[..., Paragraphs]
    """Explains what the run has shown, with the run's own numbers. Takes the same as `criteria`."""
    reference: Callable[[History], Reference | None] | None = None
    """The run that the student's is compared with, once it is long enough. Its loss is a third argument of `criteria`
    and `conclude`: NaN as long as it is not known."""
    intended_steps: int
    """The number of steps after which the intended actions have met every criterion."""
    start: dict[str, Any] = field(default_factory=dict)
    """Differences from the defaults at step 0, without the seed."""
    plan: tuple[Event, ...] = ()
    """Planned changes."""
    intended_start: dict[str, Any] = field(default_factory=dict)
    """Changes that a good student makes before step 1."""
    intended: tuple[Event, ...] = ()
    """Changes that a good student makes during the run."""

    def config(self, seed: int = 0) -> RunConfig:
        """The configuration at step 0."""
        return RunConfig(seed=seed, **self.start)

    def intended_config(self, seed: int = 0) -> RunConfig:
        """The configuration at step 0 with the intended changes."""
        return RunConfig(seed=seed, **{**self.start, **self.intended_start})

    def intended_plan(self) -> tuple[Event, ...]:
        """All changes of the intended run, in order of steps. As on the dashboard, changing a knob by hand cancels its
        later planned changes."""
        by_hand = {name: event.step for event in reversed(self.intended) for name in event.changes}
        by_hand |= dict.fromkeys(self.intended_start, 0)
        kept = (e for e in self.plan if all(e.step < by_hand.get(name, e.step + 1) for name in e.changes))
        return tuple(sorted((*kept, *self.intended), key=lambda event: event.step))

    def check(self, history: History, config: RunConfig, loss_of: Callable[[Reference], float]) -> list[Criterion]:
        """Check a student's run. Never raises, however unusual or short the run is.

        Args:
            history: the run so far.
            config: the current configuration.
            loss_of: returns the loss of a reference run; NaN if it is not yet known.

        Returns:
            The lesson's criteria, preceded by an unmet one if the run does not have the lesson's setup.
        """
        return [*self._setup_mismatch(history), *self.criteria(history, config, *self._reference(history, loss_of))]

    def debrief(self, history: History, config: RunConfig, loss_of: Callable[[Reference], float]) -> Paragraphs:
        """Explains a run that has passed, with its own numbers. Takes the same as `check`. Empty before the first
        step."""
        return self.conclude(history, config, *self._reference(history, loss_of)) if len(history) else ()

    def _reference(self, history: History, loss_of: Callable[[Reference], float]) -> tuple[float, ...]:
        """The loss of the reference run, if the lesson has one."""
        if self.reference is None:
            return ()
        run = self.reference(history)
        return (math.nan if run is None else loss_of(run),)

    def _setup_mismatch(self, history: History) -> list[Criterion]:
        allowed: dict[str, set[Any]] = {name: {value} for name, value in self.config().model_dump().items()}
        for event in self.plan:
            for name, value in event.changes.items():
                allowed[name].add(value)
        free = {"seed", *self.knobs}
        used = list(history.initial_config.model_dump().items())
        used += [change for event in history.events for change in event.changes.items()]
        unexpected = {name: value for name, value in used if name not in free and value not in allowed[name]}
        if not unexpected:
            return []
        differences = ", ".join(f"{KNOBS[name].label} is {format_value(value)}" for name, value in unexpected.items())
        return [Criterion("This lesson needs its own setup. Press Start this lesson.", False, differences)]


@dataclass(frozen=True)
class Experiment:
    """One run of a comparison, and the yes-or-no question that is asked before it."""

    title: str
    question: str


Judge = Callable[[Sequence[History], Sequence[bool | None]], list[Criterion]]
"""Judges the runs of a comparison and the predictions made for them (None: none yet)."""


@dataclass(frozen=True, kw_only=True)
class ComparisonLesson(Chapter):
    """Experiments in a comparison, predicted before they run and judged by the student's own runs."""

    comparison: str
    """The name of the comparison preset; its runs are those of `experiments`."""
    experiments: tuple[Experiment, ...]
    criteria: Judge
    """Computes the lesson's criteria from histories of any length."""
    verdicts: Judge
    """Once they are met: how each run ended, and whether the prediction was right."""
    conclude: Callable[[Sequence[History], Sequence[bool | None]], Paragraphs]
    """Explains what the runs have shown, with their own numbers."""


@dataclass(frozen=True)
class Answer:
    """A possible answer to the question of a lesson."""

    text: str
    reply: str
    """Why it is right or wrong."""
    right: bool = False


@dataclass(frozen=True, kw_only=True)
class TraceLesson(Chapter):
    """A question about the traces of two models that were watched while they trained."""

    code: str
    """How the traces were made."""
    trace: Path
    """The folder of the trace that the question is about."""
    beside: Path
    """The folder of another, to compare it with."""
    titles: tuple[str, str]
    """Of both."""
    figures: tuple[str, ...]
    """The charts that answer the question."""
    question: str
    answers: tuple[Answer, ...]
    conclude: Callable[[TraceHistory, TraceHistory], Paragraphs]
    """Explains what both show, with their own numbers."""

    def check(self, chosen: str | None) -> list[Criterion]:
        """The lesson's criterion, given the text of the answer that was chosen."""
        answer = next((one for one in self.answers if one.text == chosen), None)
        right = answer is not None and answer.right
        return [Criterion("You name the mistake.", right, "" if answer is None or right else "that is not it")]
