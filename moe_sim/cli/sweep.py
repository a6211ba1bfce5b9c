"""`python -m moe_sim sweep …`: trains a grid of runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from moe_sim.cli.arguments import EXIT_FAILED, EXIT_INTERRUPTED, read_whole_number, split_assignments
from moe_sim.cli.run import DEFAULT_STEPS, configuration, deferred_interrupt, progress, read_preset, read_steps
from moe_sim.config.codec import format_value
from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import KNOBS
from moe_sim.config.settings import read_settings
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engine import Engine
from moe_sim.sweep.engines import ENGINES, default_engine, engine_named
from moe_sim.sweep.grid import MOST_RUNS, Grid, parse_values
from moe_sim.sweep.store import Histories, Store
from moe_sim.sweep.summary import summary_text
from moe_sim.sweep.worker import FAILED, Row

DEFAULT_SEEDS = 3
MOST_WORKERS = 1000


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sweep`."""
    parser.add_argument("knobs", nargs="*", metavar="name=values",
                        help="comma-separated values or ranges: 2..8, 0..1:5, 0.001..1:4:log")  # fmt: skip
    parser.add_argument(
        "--preset", metavar="NAME", help="take the other knobs from one of `presets`, without its planned changes"
    )
    parser.add_argument("--seeds", metavar="N", help=f"seeds per combination; default: {DEFAULT_SEEDS}")
    parser.add_argument(
        "--steps", default=str(DEFAULT_STEPS), metavar="N", help=f"steps per run; default: {DEFAULT_STEPS}"
    )
    parser.add_argument(
        "--engine", metavar="|".join(ENGINES), help="where to train; default: dask if MOE_SIM_DASK is set, else loky"
    )
    parser.add_argument("--workers", metavar="N", help="loky worker processes; default: one per core")
    parser.add_argument("--out", action="append", default=[], metavar="FILE",
                        help="output table (.parquet, .csv), repeatable; skips runs in the first FILE")  # fmt: skip
    parser.add_argument("--histories", metavar="DIR", help="also write each run as JSON, named by the column run")


def sweep(arguments: argparse.Namespace) -> int:
    """Train the missing runs of a grid and print a table of means over seeds.

    Returns:
        The exit code: 0, 1 if runs failed, 130 after Ctrl-C.

    Raises:
        InvalidInput, EngineError, NotASweepError, CannotWriteError: before anything is computed, or when the engine or
            the disk fails. Finished rows are kept.
    """
    grid, engine = read_grid(arguments), _read_engine(arguments)
    cells = grid.cells()
    reasons = grid.left_out()
    if not cells:
        raise InvalidInput(next(iter(reasons)))
    stores = [Store(Path(name)) for name in arguments.out]
    store, copies = (stores[0], stores[1:]) if stores else (None, [])
    histories = Histories(Path(arguments.histories)) if arguments.histories else None
    for reason, count in reasons.items():
        print(f"{count} invalid {'run' if count == 1 else 'runs'} skipped. {reason}", file=sys.stderr)
    work = Sweep(cells, engine, store, histories)
    with deferred_interrupt(work.cancel) as interrupted, progress(work.total, "sweeping", "runs", work.done) as bar:
        try:
            work.run(lambda row: bar.update())
        except KeyboardInterrupt:
            interrupted.set()
    for copy in copies:
        copy.include(work.rows)
        copy.finish(cells)
    print(summary_text(work.rows, [name for name, values in grid.axes.items() if len(values) > 1 and name != "seed"]))
    failed = [row for row in work.rows if row["status"] == FAILED]
    for row in failed:
        print(f"Failed: {_changed_knobs(row)} steps={row['steps']}: {row['error']}", file=sys.stderr)
    if interrupted.is_set():
        hint = "Run the same command again to continue." if store else "Without --out, the results are lost."
        print(f"Interrupted: {work.total - work.done} of {work.total} runs left. {hint}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_FAILED if failed else 0


def read_grid(arguments: argparse.Namespace) -> Grid:
    """The grid that the arguments describe.

    Raises:
        InvalidInput: on the first problem.
    """
    steps, preset = read_steps(arguments.steps), read_preset(arguments.preset)
    axes = {name: parse_values(name, text) for name, text in split_assignments(arguments.knobs).items()}
    default = 1 if "seed" in axes else DEFAULT_SEEDS
    seeds = default if arguments.seeds is None else read_whole_number("--seeds", arguments.seeds, MOST_RUNS)
    return Grid(configuration(preset.changes if preset else {}), axes, seeds, steps)


def _read_engine(arguments: argparse.Namespace) -> Engine:
    workers = None if arguments.workers is None else read_whole_number("--workers", arguments.workers, MOST_WORKERS)
    dask = read_settings().dask
    if arguments.engine is None and workers is None:
        return default_engine(dask)
    return engine_named(arguments.engine or "loky", workers, dask)


def _changed_knobs(row: Row) -> str:
    return " ".join(f"{name}={format_value(row[name])}" for name in KNOBS if row[name] != KNOBS[name].default)
