"""`python -m moe_sim train …`: trains a run and writes it to files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from moe_sim.cli.arguments import EXIT_INTERRUPTED
from moe_sim.cli.run import add_run_arguments, follow, read_plan, report_divergence, scene_of, summary
from moe_sim.config.errors import InvalidInput
from moe_sim.config.extras import require
from moe_sim.history.files import check_writable, locked, write_whole
from moe_sim.history.to_csv import run_to_csv
from moe_sim.history.to_json import LARGEST_TEXT, run_to_json
from moe_sim.trainer.trainer import Trainer


def _html(trainer: Trainer) -> str:
    from moe_sim.charts.html_page import run_to_html  # needs an extra

    return run_to_html(scene_of(trainer), diverged=trainer.diverged)


WRITERS: dict[str, Callable[[Trainer], str]] = {
    ".json": lambda trainer: run_to_json(trainer.history, trainer.probe()),
    ".csv": lambda trainer: run_to_csv(trainer.history),
    ".html": _html,
}
"""Export functions by file suffix."""


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--out", action="append", default=[], metavar="FILE",
                        help=f"write the run to this file ({', '.join(WRITERS)}); repeatable")  # fmt: skip


def train(arguments: argparse.Namespace) -> int:
    """Train a run and write it to the files; after Ctrl-C or SIGTERM, the steps so far.

    Returns:
        The exit code: 0, 1 if the run diverged, 130 after Ctrl-C.

    Raises:
        UserError: before anything is computed, or if a file cannot be written.
        KeyboardInterrupt: after Ctrl-C before the first step; nothing is written.
    """
    plan, steps = read_plan(arguments)
    paths = _read_paths(arguments.out)
    with ExitStack() as locks:
        for path in paths:
            locks.enter_context(locked(path))
        trainer = Trainer(plan.config)
        finished = follow(plan, trainer, steps)
        if not finished and not trainer.steps_done:
            raise KeyboardInterrupt
        _write(trainer, paths)
    print(summary(trainer))
    if trainer.diverged:
        return report_divergence(trainer, steps)
    if not finished:
        kept = "The files hold the steps so far." if paths else "Without --out, they are lost."
        print(f"Interrupted after step {trainer.steps_done:,} of {steps:,}. {kept}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _read_paths(names: list[str]) -> list[Path]:
    """The files after `--out`, each once.

    Raises:
        InvalidInput, MissingPackage, CannotWriteError: if one cannot be written.
    """
    paths = list({Path(name).resolve(): Path(name) for name in names}.values())
    for path in paths:
        if path.suffix.lower() not in WRITERS:
            raise InvalidInput(f"{str(path)[-40:]!r} must end in one of {', '.join(WRITERS)}.")
        if path.suffix.lower() == ".html":
            require("plotly", "An HTML page")
        check_writable(path)
    return paths


def _write(trainer: Trainer, paths: list[Path]) -> None:
    """Write the run to the files once the content of all is known."""
    texts = {path: WRITERS[path.suffix.lower()](trainer) for path in paths}
    for path, text in texts.items():
        write_whole(path, text.encode())
        if path.suffix.lower() == ".json" and len(text) > LARGEST_TEXT:
            print(f"{path} is too large to reopen in the app; a .csv file holds the same numbers.", file=sys.stderr)
