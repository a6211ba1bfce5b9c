"""What a lesson of the course is: data, and a check that reads a student's own run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from moe_sim.config.codec import format_value
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.history.history import History

Level = Literal["beginner", "practitioner", "expert"]
DEPTHS: tuple[Level, ...] = ("beginner", "practitioner", "expert")
Paragraphs = tuple[str, ...]


@dataclass(frozen=True)
class Criterion:
    """One line of a goal: what is asked, whether the run does it, and the run's own number."""

    text: str
    met: bool
    value: str


def passed(criteria: list[Criterion]) -> bool:
    """Whether a lesson is done: every one of its criteria is met, and there is one at least."""
    return bool(criteria) and all(criterion.met for criterion in criteria)


@dataclass(frozen=True)
class Lesson:
    """A goal to reach in a live run, with what to look at, what it means, and how to tell that it was reached."""

    slug: str
    title: str
    goal: str
    """One sentence with the numbers that `check` asks for."""
    tab: str
    """Which view of the dashboard's second row to open."""
    look_for: Paragraphs
    story: dict[Level, Paragraphs]
    hint: str
    knobs: tuple[str, ...]
    """The knobs that the student may move. Any other one that is not as `start` and `plan` have it fails the check."""
    criteria: Callable[[History, RunConfig], list[Criterion]]
    """The lesson's own criteria, from a history of any length and the configuration in force."""
    conclude: Callable[[History, RunConfig], Paragraphs]
    """What the run has shown, in the run's own numbers."""
    intended_steps: int
    """After so many steps the intended actions have met every criterion."""
    start: dict[str, Any] = field(default_factory=dict)
    """What differs from the defaults at step 0; the seed is given apart."""
    plan: tuple[Event, ...] = ()
    """Knobs that move by themselves."""
    intended_start: dict[str, Any] = field(default_factory=dict)
    """What a good student changes before step 1."""
    intended: tuple[Event, ...] = ()
    """What a good student does on the way."""

    def config(self, seed: int = 0) -> RunConfig:
        """The configuration at step 0."""
        return RunConfig(seed=seed, **self.start)

    def intended_config(self, seed: int = 0) -> RunConfig:
        """The configuration at step 0 once a good student has prepared it."""
        return RunConfig(seed=seed, **{**self.start, **self.intended_start})

    def intended_plan(self) -> tuple[Event, ...]:
        """Everything that happens in the intended run, in order of steps. Once a knob was moved by hand, its planned
        moves are off, as they are on the dashboard."""
        by_hand = {name: event.step for event in reversed(self.intended) for name in event.changes}
        by_hand |= dict.fromkeys(self.intended_start, 0)
        kept = (e for e in self.plan if all(e.step < by_hand.get(name, e.step + 1) for name in e.changes))
        return tuple(sorted((*kept, *self.intended), key=lambda event: event.step))

    def check(self, history: History, config: RunConfig) -> list[Criterion]:
        """Judge a student's run. Never raises, whatever the run is and however short.

        Args:
            history: what the run has done so far.
            config: the configuration in force now.

        Returns:
            The lesson's criteria; before them one that is not met, if the run is not the lesson's.
        """
        return [*self._other_set_up(history), *self.criteria(history, config)]

    def debrief(self, history: History, config: RunConfig) -> Paragraphs:
        """What it means, with the numbers of this run. For a run that has passed; empty before its first step."""
        return self.conclude(history, config) if len(history) else ()

    def _other_set_up(self, history: History) -> list[Criterion]:
        allowed: dict[str, set[Any]] = {name: {value} for name, value in self.config().model_dump().items()}
        for event in self.plan:
            for name, value in event.changes.items():
                allowed[name].add(value)
        free = {"seed", *self.knobs}
        used = list(history.initial_config.model_dump().items())
        used += [change for event in history.events for change in event.changes.items()]
        strange = {name: value for name, value in used if name not in free and value not in allowed[name]}
        if not strange:
            return []
        words = ", ".join(f"{KNOBS[name].label} is {format_value(value)}" for name, value in strange.items())
        return [Criterion("The run has the lesson's own set-up: start the lesson anew.", False, words)]
