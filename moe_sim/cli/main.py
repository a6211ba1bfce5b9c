"""`python -m moe_sim …`: trains and exports runs without a browser page.

Each command is a `Command` in `COMMANDS`: its arguments and its function. Invalid arguments end it with one sentence
and exit code 2 before anything is computed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from moe_sim.charts.html_page import run_to_html
from moe_sim.charts.images import FORMATS, CannotDrawError, draw, find_browser
from moe_sim.charts.page import PAGE_FIGURES, figure_names
from moe_sim.charts.slides import shown_figures, slide_figure
from moe_sim.cli.arguments import EXIT_INTERRUPTED, EXIT_USAGE
from moe_sim.cli.run import add_run_arguments, follow, progress, read_plan, scene_of, summary
from moe_sim.cli.sweep import add_sweep_arguments, sweep
from moe_sim.config.codec import events_to_text, format_value
from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import KNOBS
from moe_sim.config.presets import PRESETS
from moe_sim.config.settings import read_settings, settings_table
from moe_sim.history.files import CannotWriteError, check_writable, make_directory, write_whole
from moe_sim.history.to_csv import run_to_csv
from moe_sim.history.to_json import LARGEST_TEXT, run_to_json
from moe_sim.sweep.engine import EngineError
from moe_sim.sweep.untrusted_files import NotASweepError
from moe_sim.trainer.trainer import Trainer


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
        The exit code: 0, 1 if runs of a sweep failed, 2 after an error message, or 130 after Ctrl-C.
    """
    try:
        arguments, rest = _parser().parse_known_args(argv)
        _take_knobs(arguments, rest)
        return arguments.run(arguments) or 0
    except (InvalidInput, CannotDrawError, CannotWriteError, EngineError, NotASweepError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report one sentence instead of the full usage."""
        raise InvalidInput(f"{message[0].upper()}{message[1:]}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m moe_sim", description="Expert Collapse Lab on the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser


def _take_knobs(arguments: argparse.Namespace, rest: list[str]) -> None:
    """Accept name=value after options too, where argparse does not parse it."""
    for word in rest:
        if word.startswith("-") or "knobs" not in arguments:
            raise InvalidInput(f"{arguments.command} does not accept {word[:40]!r}.")
        arguments.knobs.append(word)


WRITERS: dict[str, Callable[[Trainer], str]] = {
    ".json": lambda trainer: run_to_json(trainer.history, trainer.probe()),
    ".csv": lambda trainer: run_to_csv(trainer.history),
    ".html": lambda trainer: run_to_html(scene_of(trainer), diverged=trainer.diverged),
}
"""Export functions by file suffix."""


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--out", action="append", default=[], metavar="FILE",
                        help=f"write the run to this file ({', '.join(WRITERS)}); repeatable")  # fmt: skip


def _train(arguments: argparse.Namespace) -> None:
    plan, steps = read_plan(arguments)
    paths = [Path(name) for name in arguments.out]
    for path in paths:
        if path.suffix.lower() not in WRITERS:
            raise InvalidInput(f"{str(path)[-40:]!r} must end in one of {', '.join(WRITERS)}.")
        check_writable(path)
    trainer = Trainer(plan.config)
    follow(plan, trainer, steps)
    texts = {path: WRITERS[path.suffix.lower()](trainer) for path in paths}
    for path, text in texts.items():
        write_whole(path, text.encode())
        if path.suffix.lower() == ".json" and len(text) > LARGEST_TEXT:
            print(f"{path} is too large to reopen in the app; a .csv file holds the same numbers.", file=sys.stderr)
    print(summary(trainer))


def _figures_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="output directory; created if missing")
    parser.add_argument("--format", default=",".join(FORMATS), metavar="svg,png", help="default: both")
    parser.add_argument(
        "--only", metavar="NAME,NAME", help="draw only these figures; default: all that the page would show"
    )


def _figures(arguments: argparse.Namespace) -> None:
    (plan, steps), directory = read_plan(arguments), Path(arguments.out)
    formats = _choose(arguments.format, FORMATS, "format")
    trainer = Trainer(plan.config)
    only = arguments.only and _choose(arguments.only, figure_names(scene_of(trainer)), "figure")
    browser = find_browser(read_settings().browser_path)
    make_directory(directory)
    follow(plan, trainer, steps)
    scene = scene_of(trainer)
    figures = {name: PAGE_FIGURES[name](scene, "light") for name in only} if only else shown_figures(scene)
    slides = {name: slide_figure(figure, scene) for name, figure in figures.items()}
    with progress(len(slides) * len(formats), "drawing", "files") as bar:

        def keep(name: str, picture: bytes) -> None:
            write_whole(directory / name, picture)
            bar.update()

        draw(slides, formats, browser, keep)
    print(summary(trainer))


def _choose(text: str, offered: tuple[str, ...], noun: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in chosen:
        if word not in offered:
            raise InvalidInput(f"There is no {noun} {word[:40]!r}; choose from {', '.join(offered)}.")
    return chosen


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


def _settings(arguments: argparse.Namespace) -> None:
    print(settings_table())


COMMANDS = (
    Command("train", "Train a run and write it to files.", _train, _train_arguments),
    Command("figures", "Train a run and draw its figures for slides.", _figures, _figures_arguments),
    Command("sweep", "Train a grid of runs on several cores or machines.", sweep, add_sweep_arguments),
    Command("presets", "List the presets.", _presets),
    Command("knobs", "List the knobs and their allowed values.", _knobs),
    Command("settings", "List the environment variables that a host may set.", _settings),
)
