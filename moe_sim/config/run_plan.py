"""Runs to be compared: what each one is from step 0 on, how it departs from another, and the difference in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from moe_sim.config.codec import changes_from_text, format_value
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS, problems, short_name
from moe_sim.config.run_config import RunConfig

NAMES = "ABCD"
"""Runs side by side go by these names; there are never more."""
DATA_KNOBS = frozenset(
    {"task", "seed", "batch_tokens", "num_topics", "topic_skew", "topic_shift", "shared_direction", "domain_mix"}
)
"""Knobs that decide which tokens a run sees, and in what order."""
WEIGHT_KNOBS = frozenset({"task", "seed", "num_experts", "expert_hidden_size"})
"""Knobs that decide the initial weights."""


@dataclass(frozen=True)
class RunPlan:
    """A whole run before it is made: its configuration at step 0, and the live knobs that move later."""

    config: RunConfig
    events: tuple[Event, ...] = ()

    def course(self, name: str) -> tuple[tuple[int, Any], ...]:
        """The values of a knob, each with the number of steps after which it holds; the first one from 0 on."""
        values = [(0, getattr(self.config, name))]
        for event in self.events:
            if name not in event.changes:
                continue
            values = [one for one in values if one[0] < event.step]
            if not values or values[-1][1] != event.changes[name]:
                values.append((event.step, event.changes[name]))
        return tuple(values)

    def changed(self, changes: Iterable[Event]) -> RunPlan:
        """The plan that departs from this one. A change after 0 steps belongs to the configuration, and may be of a
        structural knob; a changed knob's own later moves in this plan are off.

        Raises:
            ValueError: (pydantic's ValidationError) where a value is not allowed at some step; ValueError for a
                structural knob that would change later than step 0.
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
    """How `other` departs from `base`: `base.changed` of it is `other` again."""
    changes: dict[int, dict[str, Any]] = {}
    for name in KNOBS:
        ours, theirs = base.course(name), other.course(name)
        if ours == theirs:
            continue
        same = 0
        while same < min(len(ours), len(theirs)) and ours[same] == theirs[same]:
            same += 1
        departing = theirs[same:]
        if len(ours) > same and (not departing or departing[0][0] > ours[same][0]):
            departing = ((ours[same][0], theirs[same - 1][1]), *departing)  # the base's own move is left out
        for step, value in departing:
            changes.setdefault(step, {})[name] = value
    return tuple(Event(step, changes[step]) for step in sorted(changes))


def run_plan_from_text(base: RunPlan, text: str) -> tuple[RunPlan, list[str]]:
    """Read how a run departs from `base`, as `events_to_text` wrote it, however broken it is.

    Returns:
        The run without what is not allowed, and one sentence for each part that was refused.
    """
    changes, notices = changes_from_text(text, structural_at_start=True)
    try:
        return base.changed(changes), notices
    except ValidationError:
        pass  # then one by one, to keep what can be kept
    allowed: list[Event] = []
    for event in changes:
        try:
            base.changed([*allowed, event])
        except ValidationError as error:
            notices += [f"Event at step {event.step}: {sentence}" for sentence in problems(error).values()]
        else:
            allowed.append(event)
    return base.changed(allowed), notices


def differing_knobs(plans: Sequence[RunPlan]) -> tuple[str, ...]:
    """The knobs whose course is not the same in all."""
    return tuple(name for name in KNOBS if len({plan.course(name) for plan in plans}) > 1)


def course_in_words(course: tuple[tuple[int, Any], ...]) -> str:
    """`0`, or `0, from step 100 on 0.1`."""
    first, *later = [(step, format_value(value).replace("_", " ")) for step, value in course]
    return ", ".join([first[1], *(f"from step {step} on {value}" for step, value in later)])


def difference_in_words(plans: Sequence[RunPlan]) -> str:
    """One or two sentences: in what the runs differ, and what is the same in all."""
    names, knobs = NAMES[: len(plans)], differing_knobs(plans)
    runs = f"{', '.join(names[:-1])} and {names[-1]}"
    if not knobs:
        return f"{runs} do not differ: the same run {len(names)} times."
    parts = []
    for knob in knobs:
        values = [course_in_words(plan.course(knob)) for plan in plans]
        told = " against ".join(values) if len(values) == 2 else "; ".join(
            f"{name} {value}" for name, value in zip(names, values, strict=True)
        )  # fmt: skip
        parts.append(f"{knob} ({told})")
    return f"{runs} differ only in {' and '.join(parts)}. {_what_is_shared(knobs)}"


def plan_in_words(plan: RunPlan, among: Sequence[RunPlan]) -> str:
    """What tells a run from the others, short: `α 0.03`, or `α 0, from step 100 on 0.1`."""
    parts = [f"{short_name(knob)} {course_in_words(plan.course(knob))}" for knob in differing_knobs(among)]
    return ", ".join(parts) or "the same"


def _what_is_shared(knobs: tuple[str, ...]) -> str:
    parts = [
        f"{'other' if deciding.intersection(knobs) else 'the same'} {what}"
        for what, deciding in (("data", DATA_KNOBS), ("initial weights", WEIGHT_KNOBS))
    ]
    return f"They have {' and '.join(parts)}."


def _from_courses(courses: dict[str, dict[int, Any]]) -> RunPlan:
    config = RunConfig(**{name: course[0] for name, course in courses.items()})
    moves: dict[int, dict[str, Any]] = {}
    for name, course in courses.items():
        for step in course:
            if step:
                moves.setdefault(step, {})[name] = course[step]
    events, before = [], config
    for step in sorted(moves):
        after = before.replace(**moves[step])
        moved = {name: getattr(after, name) for name in moves[step] if getattr(after, name) != getattr(before, name)}
        if moved:
            events.append(Event(step, moved))
        before = after
    return RunPlan(config, tuple(events))
