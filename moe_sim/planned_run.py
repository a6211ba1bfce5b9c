"""A whole run from the words of a command line: configuration, planned events, number of steps."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from tqdm import tqdm

from moe_sim.codec import events_from_text, events_to_text, parse_value
from moe_sim.config import RunConfig
from moe_sim.derived import recent_mean
from moe_sim.diagnosis import diagnose
from moe_sim.export.document import MOST_STEPS
from moe_sim.history import Event
from moe_sim.knobs import KNOBS, problems
from moe_sim.presets import PRESETS
from moe_sim.trainer import Trainer

DEFAULT_STEPS = 600


class UsageError(Exception):
    """The message is the sentence that the user gets."""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("knobs", nargs="*", metavar="name=value", help="knobs at step 0, as `knobs` lists them")
    parser.add_argument("--preset", metavar="NAME", help="start from a scenario of `presets` and follow its plan")
    parser.add_argument("--events", action="append", default=[], metavar="STEP:NAME=VALUE",
                        help="move a live knob after so many steps; several with ; between them")  # fmt: skip
    parser.add_argument("--steps", default=str(DEFAULT_STEPS), metavar="N", help=f"default: {DEFAULT_STEPS}")


@dataclass(frozen=True)
class Plan:
    """A run that is to be."""

    config: RunConfig
    events: tuple[Event, ...]
    steps: int


def read_plan(arguments: argparse.Namespace) -> Plan:
    """Preset, knobs, events and steps of a command that runs something.

    Raises:
        UsageError: with a sentence on the first thing that is wrong.
    """
    steps = arguments.steps
    if not (steps.isascii() and steps.isdigit() and len(steps) < 10 and 1 <= int(steps) <= MOST_STEPS):
        raise UsageError(f"--steps must be a whole number from 1 to {MOST_STEPS:,}, not {steps[:40]!r}.")
    if arguments.preset is not None and arguments.preset not in PRESETS:
        raise UsageError(f"There is no preset {arguments.preset[:40]!r}; there are {', '.join(PRESETS)}.")
    preset = PRESETS[arguments.preset] if arguments.preset else None
    try:
        config = RunConfig(**{**(preset.changes if preset else {}), **_read_knobs(arguments.knobs)})
    except ValidationError as error:
        raise UsageError(next(iter(problems(error).values()))) from None
    planned = preset.plan if preset else ()
    events, notices = events_from_text(";".join(filter(None, [events_to_text(planned), *arguments.events])), config)
    late = {event.step for event in events if event.step >= int(steps)} - {event.step for event in planned}
    if late:
        notices.append(f"The event at step {min(late)} would never act: the run ends after step {steps}.")
    if notices:
        raise UsageError(notices[0])
    return Plan(config, events, int(steps))


def _read_knobs(assignments: list[str]) -> dict[str, object]:
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"{assignment[:40]!r} is not of the form name=value.")
        if name not in KNOBS:
            raise UsageError(f"There is no knob named {name[:40]!r}; `python -m moe_sim knobs` lists them.")
        values[name] = parse_value(name, text)
    return values


def progress(total: int, verb: str, unit: str) -> Any:
    """A progress bar on stderr, moved by its `update()`; a line every few seconds where nobody watches."""
    watched = sys.stderr.isatty()
    return tqdm(total=total, desc=verb, unit=f" {unit}", file=sys.stderr, mininterval=0.1 if watched else 5)


def follow(plan: Plan, trainer: Trainer) -> None:
    """Do the whole run with a progress bar on stderr; it ends early if it diverges."""
    torch.set_num_threads(1)  # as on the page: the same configuration gives the same numbers
    moves = {event.step: event.changes for event in plan.events}
    with progress(plan.steps, "training", "steps") as bar:
        for done in range(plan.steps):
            if done in moves:
                trainer.update(**moves[done])
            if trainer.step() is None:
                break
            bar.update()


def summary(trainer: Trainer) -> str:
    """The diagnosis and the main numbers in one line."""
    history, config = trainer.history, trainer.config
    state = diagnose(history, config, diverged=trainer.diverged)
    numbers = [f"step {len(history)}"]
    if len(history):
        means = {name: float(recent_mean(history, name)) for name in ("task_loss", "balance_loss", "dropped_fraction")}
        numbers += [
            f"task loss {means['task_loss']:.3f}",
            f"balance loss {means['balance_loss']:.3f}",
            f"largest share {100 * history.last('smoothed_load').max():.0f} %",
            f"dead experts {history.last('dead_experts'):.0f} of {config.num_experts}",
            f"dropped {100 * means['dropped_fraction']:.0f} %",
        ]
    return f"{state.state}. {state.evidence} ({', '.join(numbers)})".replace("\u00a0", " ")
