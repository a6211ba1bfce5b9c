"""A whole run from the words of a command line: configuration, planned events, number of steps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from tqdm import tqdm

from moe_sim.charts.scene import Scene
from moe_sim.cli.arguments import read_whole_number, split_assignments
from moe_sim.config.codec import events_from_text, events_to_text, parse_value
from moe_sim.config.errors import InvalidInput
from moe_sim.config.events import Event
from moe_sim.config.knobs import problems
from moe_sim.config.limits import MOST_STEPS
from moe_sim.config.presets import PRESETS, Preset
from moe_sim.config.run_config import RunConfig
from moe_sim.diagnosis.verdict import diagnose
from moe_sim.history.series import recent_mean
from moe_sim.trainer.trainer import Trainer

DEFAULT_STEPS = 600


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
        InvalidInput: with a sentence on the first thing that is wrong.
    """
    steps, preset = read_steps(arguments.steps), read_preset(arguments.preset)
    values = {name: parse_value(name, text) for name, text in split_assignments(arguments.knobs).items()}
    config = configuration({**(preset.changes if preset else {}), **values})
    planned = preset.plan if preset else ()
    events, notices = events_from_text(";".join(filter(None, [events_to_text(planned), *arguments.events])), config)
    late = {event.step for event in events if event.step >= steps} - {event.step for event in planned}
    if late:
        notices.append(f"The event at step {min(late)} would never act: the run ends after step {steps}.")
    if notices:
        raise InvalidInput(notices[0])
    return Plan(config, events, steps)


def read_steps(text: str) -> int:
    """The number after `--steps`.

    Raises:
        InvalidInput: if it is none, or more than a run may have.
    """
    return read_whole_number("--steps", text, MOST_STEPS)


def read_preset(name: str | None) -> Preset | None:
    """The scenario after `--preset`, if there is one.

    Raises:
        InvalidInput: if there is no such scenario.
    """
    if name is not None and name not in PRESETS:
        raise InvalidInput(f"There is no preset {name[:40]!r}; there are {', '.join(PRESETS)}.")
    return None if name is None else PRESETS[name]


def configuration(values: Mapping[str, object]) -> RunConfig:
    """A configuration of these values.

    Raises:
        InvalidInput: with a sentence on the first that cannot be.
    """
    try:
        return RunConfig(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise InvalidInput(next(iter(problems(error).values()))) from None


def progress(total: int, verb: str, unit: str, done: int = 0) -> Any:
    """A progress bar on stderr, moved by its `update()`; a line every few seconds where nobody watches. `done` of the
    total were there before."""
    interval = 0.1 if sys.stderr.isatty() else 5
    return tqdm(total=total, initial=done, desc=verb, unit=f" {unit}", file=sys.stderr, mininterval=interval)


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


def scene_of(trainer: Trainer) -> Scene:
    """What there is to draw of a trainer's run as it is now."""
    return Scene(trainer.history, trainer.config, trainer.probe(), trainer.task)


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
