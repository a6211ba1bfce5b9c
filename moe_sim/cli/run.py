"""Plans and trains one run from the command line: configuration, planned changes, number of steps."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from tqdm import tqdm

from moe_sim.cli.arguments import EXIT_FAILED, read_whole_number, split_assignments
from moe_sim.config.codec import events_from_text, events_to_text, parse_value
from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import problems
from moe_sim.config.limits import MOST_STEPS
from moe_sim.config.presets import PRESETS, Preset
from moe_sim.config.run_config import RunConfig
from moe_sim.config.run_plan import RunPlan
from moe_sim.config.suggestions import unknown
from moe_sim.config.words import percent
from moe_sim.diagnosis.verdict import diagnose
from moe_sim.history.series import recent_mean
from moe_sim.trainer.trainer import Trainer

if TYPE_CHECKING:
    from moe_sim.charts.scene import Scene

DEFAULT_STEPS = 600


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("knobs", nargs="*", metavar="name=value", help="values at step 0; `knobs` lists the knobs")
    parser.add_argument("--preset", metavar="NAME", help="start from one of `presets`, with its planned changes")
    parser.add_argument("--events", action="append", default=[], metavar="STEP:NAME=VALUE",
                        help="change a live knob after STEP steps; separate several changes with ;")  # fmt: skip
    parser.add_argument(
        "--steps", default=str(DEFAULT_STEPS), metavar="N", help=f"number of steps; default: {DEFAULT_STEPS}"
    )


def read_plan(arguments: argparse.Namespace) -> tuple[RunPlan, int]:
    """The plan and the number of steps that the arguments describe.

    Raises:
        InvalidInput: on the first problem.
    """
    steps, preset = read_steps(arguments.steps), read_preset(arguments.preset)
    values = {name: parse_value(name, text) for name, text in split_assignments(arguments.knobs).items()}
    config = configuration({**(preset.changes if preset else {}), **values})
    planned = preset.plan if preset else ()
    events, notices = events_from_text(";".join(filter(None, [events_to_text(planned), *arguments.events])), config)
    late = {event.step for event in events if event.step >= steps} - {event.step for event in planned}
    if late:
        notices.append(
            f"The change planned at step {min(late):,} would never happen: the run ends after step {steps:,}."
        )
    if notices:
        raise InvalidInput(notices[0])
    return RunPlan(config, events), steps


def read_steps(text: str) -> int:
    """The number after `--steps`.

    Raises:
        InvalidInput: if it is not a whole number from 1 to `MOST_STEPS`.
    """
    return read_whole_number("--steps", text, MOST_STEPS)


def read_preset(name: str | None) -> Preset | None:
    """The preset named after `--preset`, if any.

    Raises:
        InvalidInput: if there is no such preset.
    """
    if name is not None and name not in PRESETS:
        raise InvalidInput(unknown("preset", name, PRESETS, f"; choose from {', '.join(PRESETS)}."))
    return None if name is None else PRESETS[name]


def configuration(values: Mapping[str, object]) -> RunConfig:
    """The configuration with these knob values.

    Raises:
        InvalidInput: on the first invalid value.
    """
    try:
        return RunConfig(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise InvalidInput(next(iter(problems(error).values()))) from None


def progress(total: int, verb: str, unit: str, done: int = 0) -> Any:
    """A progress bar on stderr, advanced by its `update()`; nothing if stderr is not a terminal.

    `done` of the total were finished before.
    """
    return tqdm(total=total, initial=done, desc=verb, unit=f" {unit}", file=sys.stderr, disable=None)


def follow(plan: RunPlan, trainer: Trainer, steps: int) -> bool:
    """Train the whole run with a progress bar; it ends early if it diverges.

    Returns:
        False if Ctrl-C or SIGTERM ended it; the step in progress was completed.
    """
    torch.set_num_threads(1)  # as on the page: the same configuration gives the same numbers
    planned = {event.step: event.changes for event in plan.events}
    with deferred_interrupt() as interrupted, progress(steps, "training", "steps") as bar:
        for step in range(steps):
            if interrupted.is_set():
                return False
            if step in planned:
                trainer.update(**planned[step])
            if trainer.step() is None:
                break
            bar.update()
    return True


@contextmanager
def deferred_interrupt(then: Callable[[], None] = lambda: None) -> Iterator[Event]:
    """A signal that would raise KeyboardInterrupt (Ctrl-C, SIGTERM) sets the event and calls `then` instead; the second
    one raises."""
    pressed = Event()
    # Background jobs ignore Ctrl-C.
    raising = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is signal.default_int_handler]

    def handle(handler: Callable[[int, FrameType | None], None]) -> None:
        for number in raising:
            signal.signal(number, handler)

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        handle(signal.default_int_handler)
        then()

    handle(press)
    try:
        yield pressed
    finally:
        handle(signal.default_int_handler)


def scene_of(trainer: Trainer) -> Scene:
    """The scene to draw of a trainer's run at its current step."""
    from moe_sim.charts.scene import Scene  # needs an extra

    return Scene(trainer.history, trainer.config, trainer.probe(), trainer.task)


def summary(trainer: Trainer) -> str:
    """The diagnosis and the main metrics in one line."""
    history, config = trainer.history, trainer.config
    state = diagnose(history, config, diverged=trainer.diverged)
    numbers = [f"step {len(history)}"]
    if len(history):
        means = {name: float(recent_mean(history, name)) for name in ("task_loss", "balance_loss", "dropped_fraction")}
        numbers += [
            f"task loss {means['task_loss']:.3f}",
            f"balance loss {means['balance_loss']:.3f}",
            f"largest share {percent(history.last('smoothed_load').max())}",
            f"dead experts {history.last('dead_experts'):.0f} of {config.num_experts}",
            f"dropped {percent(means['dropped_fraction'])}",
        ]
    return f"{state.state}. {state.evidence} ({', '.join(numbers)})".replace("\u00a0", " ")


def report_divergence(trainer: Trainer, steps: int) -> int:
    """Say on stderr that a run diverged. Returns the exit code."""
    print(f"The run diverged after step {trainer.steps_done:,} of {steps:,}.", file=sys.stderr)
    return EXIT_FAILED
