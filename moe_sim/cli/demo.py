"""`python -m moe_sim demo`: trains transformers' own tiny models while they are watched."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from moe_sim.cli.arguments import read_whole_number
from moe_sim.config.errors import InvalidInput
from moe_sim.diagnosis.traces import diagnose_trace
from moe_sim.history.trace import open_trace
from moe_sim.history.trace_format import FILE_NAME

MOST_STEPS = 100_000


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="runs", metavar="FOLDER", help="where the traces go; default: runs")
    parser.add_argument("--steps", metavar="N", help="steps of each model")
    parser.add_argument("--only", metavar="NAME", help="train one of the models, by the name of its folder")


def demo(arguments: argparse.Namespace) -> None:
    """Trains the models of the demonstration, one after the other, and prints the verdict on each.

    Raises:
        UserError: with a sentence, if transformers is missing or the folder cannot be used.
    """
    from moe_sim.tracing.demonstration import DEMONSTRATIONS, STEPS, demonstrate

    folder = Path(arguments.out)
    steps = STEPS if arguments.steps is None else read_whole_number("--steps", arguments.steps, MOST_STEPS)
    chosen = tuple(one for one in DEMONSTRATIONS if arguments.only in (None, one.name))
    if not chosen:
        names = ", ".join(one.name for one in DEMONSTRATIONS)
        raise InvalidInput(f"--only must be one of {names}, not {arguments.only[:40]!r}.")
    for one in chosen:
        if (folder / one.name / FILE_NAME).exists():
            raise InvalidInput(f"{folder / one.name} holds a trace already; choose another folder with --out.")

    def report(name: str, step: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{name}: step {step:,} of {steps:,}", end="" if step < steps else "\n", file=sys.stderr)

    print(f"To watch it live, in another shell: streamlit run app.py -- --runs {folder}", flush=True)
    for one in chosen:
        demonstrate(folder, steps, report, (one,))
        verdict = diagnose_trace(open_trace(folder / one.name))
        print(f"{one.name}: {verdict.state}. {verdict.evidence}", flush=True)
