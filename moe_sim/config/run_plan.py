"""Run plans: a configuration with planned changes, and the differences between plans, as data and in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from moe_sim.config.codec import changes_from_text
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS, problems, short_name
from moe_sim.config.run_config import RunConfig
from moe_sim.config.words import value_in_words

NAMES = "ABCD"
"""The names of runs side by side; there are never more."""
DATA_KNOBS = frozenset({
    "task", "seed", "batch_tokens", "num_topics", "topic_skew", "topic_shift", "shared_direction", "sequence_tokens",
    "domain_mix", "own_text",
})  # fmt: skip
"""Knobs that determine which tokens a run sees, and in what order."""
WEIGHT_KNOBS = frozenset(
    {
        "task", "seed", "num_layers", "num_experts", "expert_hidden_size", "router_init", "expert_init", "num_topics",
        "shared_direction", "own_text", "router_blind", "swap_columns", "swap_weights", "shared_experts",
        "sequence_tokens",
    }
)  # fmt: skip
"""Knobs whose values at step 0 determine the initial weights; an even start looks at the tokens."""


@dataclass(frozen=True)
class RunPlan:
    """A complete run before it starts: its configuration at step 0 and its planned changes."""

    config: RunConfig
    events: tuple[Event, ...] = ()

    def course(self, name: str) -> tuple[tuple[int, Any], ...]:
        """The values of a knob over time as (step, value), each in force after `step` steps; the first has step 0."""
        values = [(0, getattr(self.config, name))]
        for event in self.events:
            if name not in event.changes:
                continue
            values = [(step, value) for step, value in values if step < event.step]
            if not values or values[-1][1] != event.changes[name]:
                values.append((event.step, event.changes[name]))
        return tuple(values)

    def changed(self, changes: Iterable[Event]) -> RunPlan:
        """Returns this plan with changes. A change at step 0 goes into the configuration and may be structural. Every
        change replaces this plan's own later changes of the same knob.

        Raises:
            ValueError: (pydantic's ValidationError) if a value is invalid at some step; a plain ValueError for a
                structural knob that would change after step 0.
        """
        courses = {name: dict(self.course(name)) for name in KNOBS}
        for event in sorted(changes, key=lambda event: event.step):
            for name, value in event.changes.items():
                if event.step and not KNOBS[name].live:
                    raise ValueError(f"{KNOBS[name].label} is structural: it can only differ from step 0 on.")
                kept = {step: old for step, old in courses[name].items() if step < event.step}
                courses[name] = kept | {event.step: value}
        return _from_courses(courses)


def changes_between(base: RunPlan, other: RunPlan) -> tuple[Event, ...]:
    """The changes that turn `base` into `other`: `base.changed` of them equals `other`."""
    changes: dict[int, dict[str, Any]] = {}
    for name in KNOBS:
        ours, theirs = base.course(name), other.course(name)
        if ours == theirs:
            continue
        same = 0
        while same < min(len(ours), len(theirs)) and ours[same] == theirs[same]:
            same += 1
        different = theirs[same:]
        if len(ours) > same and (not different or different[0][0] > ours[same][0]):
            different = ((ours[same][0], theirs[same - 1][1]), *different)  # cancels the base's own change
        for step, value in different:
            changes.setdefault(step, {})[name] = value
    return tuple(Event(step, changes[step]) for step in sorted(changes))


def run_plan_from_text(base: RunPlan, text: str) -> tuple[RunPlan, list[str]]:
    """Reads how a run differs from `base`, from the text of `events_to_text`, valid or not.

    Returns:
        The plan with the valid changes, and one sentence per invalid part.
    """
    changes, notices = changes_from_text(text, structural_at_start=True)
    try:
        return base.changed(changes), notices
    except ValidationError:
        pass  # try one by one and keep the valid ones
    valid: list[Event] = []
    for event in changes:
        try:
            base.changed([*valid, event])
        except ValidationError as error:
            notices += [f"Event at step {event.step}: {sentence}" for sentence in problems(error).values()]
        else:
            valid.append(event)
    return base.changed(valid), notices


def differing_knobs(plans: Sequence[RunPlan]) -> tuple[str, ...]:
    """The knobs whose course differs between the plans."""
    return tuple(name for name in KNOBS if len({plan.course(name) for plan in plans}) > 1)


def course_in_words(course: tuple[tuple[int, Any], ...]) -> str:
    """The course of a knob, such as `0` or `0, then 0.1 from step 100`."""
    first, *later = [(step, value_in_words(value)) for step, value in course]
    return ", ".join([first[1], *(f"then {value} from step {step:,}" for step, value in later)])


def difference_in_words(plans: Sequence[RunPlan]) -> str:
    """The difference between runs in sentences: the knobs, their values in each run, and what the runs share."""
    names, knobs = NAMES[: len(plans)], differing_knobs(plans)
    runs = _enumerate(names, "and")
    if not knobs:
        return f"{runs} are identical. Change something in {_enumerate(names[1:], 'or')}."
    values = [
        f"{name}: {'; '.join(f'{short_name(knob)} = {course_in_words(plan.course(knob))}' for knob in knobs)}."
        for name, plan in zip(names, plans, strict=True)
    ]
    differing = _enumerate([short_name(knob) for knob in knobs], "and")
    return f"{runs} differ only in {differing}. {' '.join(values)} {_shared_initial_state(plans, knobs)}"


def plan_in_words(plan: RunPlan, among: Sequence[RunPlan]) -> str:
    """What distinguishes a run from the others, such as `α 0.03` or `α 0, then 0.1 from step 100`."""
    parts = [f"{short_name(knob)} {course_in_words(plan.course(knob))}" for knob in differing_knobs(among)]
    return ", ".join(parts) or "the same"


def _enumerate(words: Sequence[str], conjunction: str) -> str:
    """`A`, `A and B` or `A, B and C`."""
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _shared_initial_state(plans: Sequence[RunPlan], knobs: tuple[str, ...]) -> str:
    at_start = [name for name in knobs if len({getattr(plan.config, name) for plan in plans}) > 1]
    parts = [
        f"{'different' if determining.intersection(differing) else 'the same'} {what}"
        for what, determining, differing in (("data", DATA_KNOBS, knobs), ("initial weights", WEIGHT_KNOBS, at_start))
    ]
    return f"They have {' and '.join(parts)}."


def _from_courses(courses: dict[str, dict[int, Any]]) -> RunPlan:
    config = RunConfig(**{name: course[0] for name, course in courses.items()})
    changes: dict[int, dict[str, Any]] = {}
    for name, course in courses.items():
        for step in course:
            if step:
                changes.setdefault(step, {})[name] = course[step]
    events, before = [], config
    for step in sorted(changes):
        after = before.replace(**changes[step])
        changed = {
            name: getattr(after, name) for name in changes[step] if getattr(after, name) != getattr(before, name)
        }
        if changed:
            events.append(Event(step, changed))
        before = after
    return RunPlan(config, tuple(events))
