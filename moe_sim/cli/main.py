"""`python -m moe_sim …`: trains and exports runs without a browser page.

Each command is a `Command` in `COMMANDS`: its arguments and its function. Invalid arguments end it with one sentence
and exit code 2 before anything is computed.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from moe_sim.cli.arguments import EXIT_INTERRUPTED, EXIT_PIPE_CLOSED, EXIT_USAGE
from moe_sim.cli.demo import add_demo_arguments, demo
from moe_sim.cli.figures import add_figures_arguments, figures
from moe_sim.cli.sweep import add_sweep_arguments, sweep
from moe_sim.cli.trace import add_trace_arguments, trace
from moe_sim.cli.train import add_train_arguments, train
from moe_sim.config.codec import events_to_text, format_value
from moe_sim.config.errors import InvalidInput, UserError
from moe_sim.config.knobs import KNOBS
from moe_sim.config.presets import PRESETS
from moe_sim.config.settings import settings_table
from moe_sim.config.suggestions import did_you_mean, unknown
from moe_sim.history.column_meanings import described
from moe_sim.sweep.untrusted_files import NotASweepError


@dataclass(frozen=True)
class Command:
    """A subcommand of `python -m moe_sim`."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], int | None]
    """Runs the command; may return an exit code other than 0."""
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0, 1 if a run diverged or runs of a sweep failed, 2 after an error message, 3 if a layer of a
        trace that is shown has collapsed, 130 after Ctrl-C (or SIGTERM, see `__main__`), or 141 if nobody reads the
        output to its end.
    """
    try:
        try:
            arguments, rest = _parser().parse_known_args(argv)
            _take_knobs(arguments, rest)
            return arguments.run(arguments) or 0
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it exits
        return EXIT_PIPE_CLOSED
    except (UserError, NotASweepError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report one sentence instead of the full usage."""
        if match := re.fullmatch(r"argument (\w+): invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL):
            noun, word, names = match[1], match[2], re.findall(r"\w+", match[3])
            raise InvalidInput(unknown(noun, word, names, f"; choose from {', '.join(names)}."))
        raise InvalidInput(f"{message[0].upper()}{message[1:]}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m moe_sim", description="Expert Collapse Lab on the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser


NO_OPTIONS = ("command", "action", "run", "path", "knobs")
"""Attributes of parsed arguments that no option sets."""


def _take_knobs(arguments: argparse.Namespace, rest: list[str]) -> None:
    """Accept name=value after options too, where argparse does not parse it."""
    for word in rest:
        if word.startswith("-"):
            options = [f"--{name.replace('_', '-')}" for name in vars(arguments) if name not in NO_OPTIONS]
            end = did_you_mean(word.partition("=")[0], options)
            raise InvalidInput(f"{arguments.command} does not accept {word[:40]!r}{end}")
        if "knobs" not in arguments:
            raise InvalidInput(f"{arguments.command} does not accept {word[:40]!r}.")
        arguments.knobs.append(word)


def _presets(arguments: argparse.Namespace) -> None:
    for name, preset in PRESETS.items():
        start = " ".join(f"{knob}={format_value(value)}" for knob, value in preset.changes.items())
        events = f"--events '{events_to_text(preset.plan)}'" if preset.plan else ""
        print(
            f"{name:20} {preset.label}: {preset.description}\n{'':20} {f'{start} {events}'.strip() or 'the defaults'}"
        )


def _knobs(arguments: argparse.Namespace) -> None:
    for name, knob in KNOBS.items():
        applies = "can change during a run" if knob.live else "needs a new run"
        print(f"{name}={format_value(knob.default)}\n    {knob.label}: {knob.help}\n    {knob.allowed}; {applies}")


def _columns(arguments: argparse.Namespace) -> None:
    print(described())


def _settings(arguments: argparse.Namespace) -> None:
    print(settings_table())


COMMANDS = (
    Command("train", "Train a run and write it to files.", train, add_train_arguments),
    Command("figures", "Train a run and draw its figures for slides.", figures, add_figures_arguments),
    Command("sweep", "Train a grid of runs on several cores or machines.", sweep, add_sweep_arguments),
    Command("trace", "Show, export or import the routing of somebody's own model.", trace, add_trace_arguments),
    Command("demo", "Train tiny models of transformers while they are watched.", demo, add_demo_arguments),
    Command("presets", "List the presets.", _presets),
    Command("knobs", "List the knobs and their allowed values.", _knobs),
    Command("columns", "List the columns of the tables with their units and averages.", _columns),
    Command("settings", "List the environment variables that a host may set.", _settings),
)
