"""`python -m moe_sim figures …`: trains a run and draws its figures for slides."""

from __future__ import annotations

import argparse
from pathlib import Path

from moe_sim.cli.run import add_run_arguments, follow, progress, read_plan, report_divergence, scene_of, summary
from moe_sim.config.errors import InvalidInput
from moe_sim.config.extras import require
from moe_sim.config.settings import read_settings
from moe_sim.config.suggestions import unknown
from moe_sim.history.files import locked, make_directory, write_whole
from moe_sim.trainer.trainer import Trainer


def add_figures_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="output directory; created if missing")
    parser.add_argument("--format", metavar="svg,png", help="default: both")
    parser.add_argument(
        "--only", metavar="NAME,NAME", help="draw only these figures; default: all that the page would show"
    )


def figures(arguments: argparse.Namespace) -> int:
    """Train a run and draw its figures.

    Returns:
        The exit code: 0, or 1 if the run diverged; its figures are drawn up to there.

    Raises:
        UserError: before anything is computed, or if a figure cannot be drawn or written.
        KeyboardInterrupt: after Ctrl-C; figures that are finished stay.
    """
    (plan, steps), directory = read_plan(arguments), Path(arguments.out)
    require("plotly", "Drawing")
    require("kaleido", "Drawing")
    from moe_sim.charts.images import FORMATS, draw, find_browser
    from moe_sim.charts.page import PAGE_FIGURES, figure_names
    from moe_sim.charts.slides import shown_figures, slide_figure

    formats = _choose(arguments.format, FORMATS, "format") if arguments.format else FORMATS
    trainer = Trainer(plan.config)
    only = arguments.only and _choose(arguments.only, figure_names(scene_of(trainer)), "figure")
    browser = find_browser(read_settings().browser_path)
    make_directory(directory)
    with locked(directory):
        if not follow(plan, trainer, steps):
            raise KeyboardInterrupt
        scene = scene_of(trainer)
        pictures = {name: PAGE_FIGURES[name](scene, "light") for name in only} if only else shown_figures(scene)
        slides = {name: slide_figure(figure, scene) for name, figure in pictures.items()}
        with progress(len(slides) * len(formats), "drawing", "files") as bar:

            def keep(name: str, picture: bytes) -> None:
                write_whole(directory / name, picture)
                bar.update()

            draw(slides, formats, browser, keep)
    print(summary(trainer))
    return report_divergence(trainer, steps) if trainer.diverged else 0


def _choose(text: str, offered: tuple[str, ...], noun: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in chosen:
        if word not in offered:
            raise InvalidInput(unknown(noun, word, offered, f"; choose from {', '.join(offered)}."))
    return chosen
