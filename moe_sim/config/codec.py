"""The text codec for configurations, shared by links, exports and the command line.

The name of a run holds every knob (`v=4&aux_loss_coef=0&…`). A link holds the version and what differs from that
version's defaults (`v=4&aux_loss_coef=0.1`), so it is short, and keeps its meaning when a default changes. Diagnosis
thresholds do not affect a run; a query string holds those that differ from the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from moe_sim.config.events import Event
from moe_sim.config.knob import Knob
from moe_sim.config.knobs import KNOBS, THRESHOLDS, problems
from moe_sim.config.run_config import RunConfig
from moe_sim.config.suggestions import unknown_knob
from moe_sim.config.thresholds import Thresholds
from moe_sim.config.versions import VERSION, completed

Model = TypeVar("Model", bound=BaseModel)

MOST_EVENTS = 100


def format_value(value: Any) -> str:
    """The canonical text of a knob's value: shortest exact number, `on`/`off` for switches, `off` for no limit."""
    if value is None or value is False:
        return "off"
    if value is True:
        return "on"
    if isinstance(value, float):
        return repr(value + 0.0).removesuffix(".0")  # + 0.0 turns −0 into 0
    return str(value)


def parse_value(name: str, text: str) -> Any:
    """Parses a knob's text without validating the value; `RunConfig` does that.

    Raises:
        KeyError: if there is no such knob.
    """
    knob = KNOBS[name]
    if knob.optional and text.strip().lower() == "off":
        return None
    return text.strip()


def to_query(config: RunConfig) -> dict[str, str]:
    """Every knob as text, with the version of the format first."""
    return {"v": str(VERSION), **{name: format_value(getattr(config, name)) for name in KNOBS}}


def to_link(config: RunConfig) -> dict[str, str]:
    """The version, and the knobs that differ from its defaults, as text."""
    texts = to_query(config)
    return {name: text for name, text in texts.items() if name == "v" or text != format_value(KNOBS[name].default)}


def from_query(query: Mapping[str, str]) -> tuple[RunConfig, list[str]]:
    """Reads a configuration from query parameters, valid or not.

    Unknown keys are ignored. A bad value falls back to the default. A link of version 1 opens as the run that it was.

    Returns:
        The configuration, and one sentence per invalid value, with its key and range.
    """
    values = {name: parse_value(name, text) for name, text in query.items() if name in KNOBS}
    return _with_defaults_for_invalid(RunConfig, completed(values, query.get("v", "")), KNOBS)


def thresholds_to_query(thresholds: Thresholds) -> dict[str, str]:
    """The thresholds that differ from the default, as text."""
    return {name: format_value(value) for name, value in thresholds if value != THRESHOLDS[name].default}


def thresholds_from_query(query: Mapping[str, str]) -> tuple[Thresholds, list[str]]:
    """Reads thresholds from query parameters, like `from_query`."""
    values = {name: text.strip() for name, text in query.items() if name in THRESHOLDS}
    return _with_defaults_for_invalid(Thresholds, values, THRESHOLDS)


def _with_defaults_for_invalid(
    model: type[Model], values: dict[str, Any], knobs: Mapping[str, Knob]
) -> tuple[Model, list[str]]:
    """Replaces invalid values with the default and adds a sentence for each."""
    notices: list[str] = []
    while True:
        try:
            return model(**values), notices
        except ValidationError as error:
            for name, sentence in problems(error).items():
                values[name] = knobs[name].default
                notices.append(f"{sentence} Using {format_value(knobs[name].default)}.")


def events_to_text(events: tuple[Event, ...]) -> str:
    """Planned changes as one query value: `400:aux_loss_coef=0.1;600:top_k=2`."""
    return ";".join(
        f"{event.step}:{name}={format_value(value)}" for event in events for name, value in event.changes.items()
    )


def events_from_text(text: str, config: RunConfig, most: int = MOST_EVENTS) -> tuple[tuple[Event, ...], list[str]]:
    """Reads the text of `events_to_text`, valid or not.

    Args:
        text: the query value.
        config: the configuration before the first event; it must be valid after each event.
        most: the maximum number of changes that are read.

    Returns:
        The events in order of steps, and one sentence per invalid part.
    """
    changes, notices = changes_from_text(text, most=most)
    events = []
    for event in changes:
        try:
            config = config.replace(**event.changes)
        except ValidationError as error:
            notices.extend(f"Event at step {event.step}: {sentence}" for sentence in problems(error).values())
        else:
            events.append(Event(event.step, {name: getattr(config, name) for name in event.changes}))
    return tuple(events), notices


def changes_from_text(
    text: str, *, structural_at_start: bool = False, most: int = MOST_EVENTS
) -> tuple[tuple[Event, ...], list[str]]:
    """Checks only the form of events. The values are not validated and may still be text.

    Args:
        text: the query value.
        structural_at_start: whether a structural knob may change at step 0.
        most: the maximum number of changes that are read.

    Returns:
        The events in order of steps, and one sentence per invalid part.
    """
    changes: dict[int, dict[str, Any]] = {}
    notices: list[str] = []
    parts = text.split(";") if text else []
    if len(parts) > most:
        notices.append(f"The link has {len(parts)} events; only the first {most} are used.")
    for part in parts[:most]:
        number, _, assignment = part.partition(":")
        name, equals, value = assignment.partition("=")
        is_step = number.isascii() and number.isdigit() and len(number) <= 6
        can_change = name in KNOBS and (KNOBS[name].live or (structural_at_start and number.strip("0") == ""))
        if is_step and equals and can_change:
            changes.setdefault(int(number), {})[name] = parse_value(name, value)
        elif is_step and equals and name not in KNOBS:
            notices.append(f"Event at step {int(number)}: {unknown_knob(name, KNOBS)}")
        else:
            notices.append(f"The event {part[:40]!r} is not of the form step:knob=value with a live knob.")
    return tuple(Event(step, changes[step]) for step in sorted(changes)), notices
