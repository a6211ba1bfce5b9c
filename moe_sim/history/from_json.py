"""JSON → History, for untrusted documents: everything is checked before anything is built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Any, NoReturn

import numpy as np
from pydantic import ValidationError

from moe_sim.config.errors import InvalidInput
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS, problems
from moe_sim.config.limits import MOST_STEPS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.versions import VERSION, completed
from moe_sim.history.columns import BY_LAYER, column_positions, row_width
from moe_sim.history.history import History
from moe_sim.history.probe import Probe
from moe_sim.history.to_json import FORMAT, INFINITIES, LARGEST_TEXT, MOST_EVENTS
from moe_sim.tasks.catalogue import TASKS
from moe_sim.tasks.task import generators

DEEPEST = 8
"""The maximum nesting depth; a run needs four."""
MOST_MARKS = 4_000_000
"""The maximum number of brackets and quotation marks, which cost memory. The longest run needs about 2.6 million."""
MOST_COMMAS = 10_000_000
"""The maximum number of commas: 40 MB of `0.0,` have that many."""
SHARES = ("load", "first_load", "importance", "processed", "preferred_load", "smoothed_load", "eval_load",
          "dropped_by_choice")  # fmt: skip
"""Columns with values from 0 to 1."""
NOT_ALWAYS_FINITE = ("imbalance_ratio", "auxiliary_loss", "z_loss", "router_logit_rms", "router_logit_max",
                     "router_balance_gradient", "router_gradient_cosine", "eval_task_loss",
                     "eval_limited_loss", "eval_sorted_loss", "eval_load")  # fmt: skip
"""Columns that may hold NaN or ∞ in a valid run; `Trainer` keeps the others finite."""
ADDED_COLUMNS = ("eval_limited_loss", "eval_sorted_loss")
"""Columns that version 4 added: files of earlier versions may lack them."""
ROUNDING = 1e-6


def run_from_json(text: str) -> tuple[History, Probe | None]:
    """Restores exactly the run that `run_to_json` wrote, and its probe if it has one.

    Raises:
        ValueError: with one sentence for the visitor, if the document is too long (40 MB), nested too deeply or of
            another format or version, or has an invalid configuration or event or a column that is missing, of the
            wrong shape or not finite where it must be.
    """
    document = _parse(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("This file is not a run that was saved here.")
    version = document.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(f"This file has version {_quote(version)}; only versions 1 to {VERSION} can be read.")
    _require_keys(document, ("format", "version", "configuration", "events", "history", "probe"), "file")
    config = _read_config(document["configuration"], version)
    columns = _read_columns(document["history"], config, version)
    events = _read_events(document["events"], config, steps=len(columns["step"]))
    probe = None if document["probe"] is None else _read_probe(document["probe"], config, steps=len(columns["step"]))
    return _rebuild(config, events, columns), probe


def _parse(text: str) -> Any:
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"This file is too large: at most {LARGEST_TEXT // 1_000_000} MB can be read.")
    if sum(map(text.count, '[]{}"')) > MOST_MARKS or text.count(",") > MOST_COMMAS:
        raise ValueError("This file is not a run that was saved here: it has too many parts.")
    letters = np.frombuffer(text.encode(errors="surrogatepass"), np.uint8)
    opening, closing = ((letters == ord(one)) | (letters == ord(other)) for one, other in ("[{", "]}"))
    is_opening = opening[opening | closing]
    # Brackets inside strings count too: no run has any.
    if np.where(is_opening, 1, -1).cumsum().max(initial=0) > DEEPEST:
        raise ValueError("This file is not a run that was saved here: it is nested too deeply.")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError("This file is not valid JSON: it may be cut off or changed.") from None


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _read_config(values: Any, version: int) -> RunConfig:
    _require_mapping(values, "configuration")
    values = completed(values, str(version))
    for name in KNOBS:
        if name not in values:
            raise ValueError(f"The configuration in this file lacks the knob {name}.")
    return _configure(values, "The configuration in this file is not valid")


def _configure(values: Mapping[str, Any], where: str) -> RunConfig:
    for name, value in values.items():
        if isinstance(value, list | dict):  # before an error message quotes it
            raise ValueError(f"{where}: {_quote(name)} is not a single value.")
    try:
        return RunConfig.model_validate(dict(values), strict=True)
    except ValidationError as error:
        raise ValueError(f"{where}: {next(iter(problems(error).values()))}") from None


def _read_events(items: Any, config: RunConfig, steps: int) -> list[Event]:
    if not isinstance(items, list) or len(items) > MOST_EVENTS:
        raise ValueError(f"The events in this file must be a list of at most {MOST_EVENTS:,}.")
    events: list[Event] = []
    for number, item in enumerate(items, start=1):
        _require_keys(item, ("step", "changes"), f"event {number}")
        step, changes = item["step"], item["changes"]
        first = events[-1].step + 1 if events else 0
        if type(step) is not int or not first <= step <= steps:
            raise ValueError(f"Event {number} in this file must be at a step from {first} to {steps}.")
        _require_mapping(changes, f"event {number}")
        for name in changes:
            if name not in KNOBS or not KNOBS[name].live:
                raise ValueError(
                    f"Event {number} in this file changes {_quote(name)}, which cannot change during a run."
                )
        config = _configure({**config.model_dump(), **changes}, f"Event {number} in this file is not valid")
        events.append(Event(step, {name: getattr(config, name) for name in changes}))
    return events


def _read_columns(items: Any, config: RunConfig, version: int) -> dict[str, np.ndarray]:
    num_experts, positions = config.num_experts, column_positions(config.num_layers, config.num_experts)
    added = ADDED_COLUMNS if version < 4 else ()
    _require_keys(items, tuple(name for name in positions if name not in added), "history")
    steps = len(items["step"]) if isinstance(items["step"], list) else 0
    if steps > MOST_STEPS:
        raise ValueError(f"This file has {steps:,} steps; at most {MOST_STEPS:,} can be read.")
    columns = {
        name: _read_numbers(
            items.get(name, [None] * steps), steps, None if isinstance(place, int) else place.stop - place.start, name
        )
        for name, place in positions.items()
    }
    for column, values in columns.items():
        name, known = column.removesuffix(BY_LAYER), values[~np.isnan(values)]
        if name not in NOT_ALWAYS_FINITE and not np.isfinite(values).all():
            raise ValueError(f"The column {column} in this file has values that are not finite.")
        if name in SHARES and not ((known >= -ROUNDING) & (known <= 1 + ROUNDING)).all():
            raise ValueError(f"The column {column} in this file has shares outside 0 to 1.")
        if name == "dead_experts" and not np.isin(values, range(num_experts + 1)).all():
            raise ValueError(f"The column {column} in this file must hold whole numbers from 0 to {num_experts}.")
    if (columns["step"] != np.arange(1, steps + 1)).any():
        raise ValueError("The steps in this file must be 1, 2, 3 and so on.")
    return columns


def _read_probe(item: Any, config: RunConfig, steps: int) -> Probe:
    _require_keys(item, ("step", "expert", "dropped", "joint", "together"), "probe")
    random = generators(config.seed)
    try:
        task = TASKS[config.task](config, random["task"], random["held_out"])
    except InvalidInput as error:  # a text of its author's own
        raise ValueError(str(error)) from None
    layers, num_experts = config.num_layers, config.num_experts
    tokens, groups = layers * len(task.held_out.batch.labels), layers * len(task.group_names)
    if type(item["step"]) is not int or not 0 <= item["step"] <= steps:
        raise ValueError(f"The probe in this file must be at a step from 0 to {steps}.")
    dropped = item["dropped"]
    if not isinstance(dropped, list) or len(dropped) != tokens or not set(map(type, dropped)) <= {bool}:
        raise ValueError(f"The probe in this file must say for each of {tokens} tokens whether it was dropped.")
    expert = _read_numbers(item["expert"], tokens, None, "expert")
    if not np.isin(expert, range(num_experts)).all():
        raise ValueError(f"The probe in this file must have experts from 0 to {num_experts - 1}.")
    tables = {name: _read_numbers(item[name], rows, num_experts, name)
              for name, rows in (("joint", groups), ("together", layers * num_experts))}  # fmt: skip
    for name, table in tables.items():
        if not ((table >= 0) & (table <= 1 + ROUNDING)).all():
            raise ValueError(f"The table {name} in this file has shares outside 0 to 1.")
    return Probe(
        item["step"], expert.astype(np.uint8).reshape(layers, -1), np.array(dropped).reshape(layers, -1),
        **{name: table.reshape(layers, -1, num_experts) for name, table in tables.items()},
    )  # fmt: skip


def _read_numbers(items: Any, length: int, width: int | None, name: str) -> np.ndarray:
    """A list of numbers, or of rows of numbers, as an array of float64."""
    shape = f"{length} numbers" if width is None else f"{length} rows of {width} numbers"
    rows = items if isinstance(items, list) and len(items) == length else None
    if rows is not None and width is not None and all(isinstance(row, list) and len(row) == width for row in rows):
        rows = list(chain.from_iterable(rows))
    elif width is not None:
        rows = None
    if rows is None:
        raise ValueError(f"The column {name} in this file must have {shape}.")
    kinds = set(map(type, rows))
    if str in kinds:
        rows = [INFINITIES.get(value, value) if isinstance(value, str) else value for value in rows]
        kinds = set(map(type, rows))
    if not kinds <= {int, float, type(None)}:
        raise ValueError(f"The column {name} in this file has values that are not numbers.")
    try:
        values = np.array(rows, dtype=np.float64)
    except OverflowError:
        raise ValueError(f"The column {name} in this file has a number that is too large.") from None
    return values if width is None else values.reshape(length, width)


def _rebuild(config: RunConfig, events: list[Event], columns: dict[str, np.ndarray]) -> History:
    history = History(config)
    table = np.empty((len(columns["step"]), row_width(config.num_layers, config.num_experts)))
    for name, position in column_positions(config.num_layers, config.num_experts).items():
        table[:, position] = columns[name]
    history.extend(table)
    for event in events:
        history.record_event(event)
    return history


def _require_mapping(item: Any, where: str) -> None:
    if not isinstance(item, dict) or not item:
        raise ValueError(f"The {where} in this file must have names and values.")


def _require_keys(item: Any, keys: tuple[str, ...], where: str) -> None:
    """Rejects anything but an object with exactly these keys."""
    _require_mapping(item, where)
    for key in keys:
        if key not in item:
            raise ValueError(f"The {where} lacks the part {key}.")
    for key in item:
        if key not in keys:
            raise ValueError(f"The {where} has an unknown part: {_quote(key)}.")


def _quote(value: Any) -> str:
    """At most 40 characters of the value; a list or an object becomes “a list”."""
    return "a list" if isinstance(value, list | dict) else repr(value)[:40]
