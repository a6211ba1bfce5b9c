"""The charts of a trace as files for slides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from moe_sim.cli.run import progress
from moe_sim.config.extras import require
from moe_sim.config.settings import read_settings
from moe_sim.diagnosis.traces import diagnose_trace
from moe_sim.history.files import locked, make_directory, write_whole
from moe_sim.history.trace import TraceHistory

LONGEST_FILE_NAME = 80


def write_slides(history: TraceHistory, directory: Path) -> None:
    """Draws every chart of a trace as SVG and PNG, those of one layer for the worst.

    Raises:
        UserError: with a sentence, if a chart cannot be drawn or written.
    """
    require("plotly", "Drawing")
    require("kaleido", "Drawing")
    from moe_sim.charts.images import FORMATS, draw, find_browser
    from moe_sim.charts.trace_page import trace_slide
    from moe_sim.charts.traces import TraceScene, figure_names

    browser = find_browser(read_settings().browser_path)
    make_directory(directory)
    with locked(directory):
        scene = TraceScene(history, diagnose_trace(history).layer or 0)
        names = figure_names(history)
        slides = {file: trace_slide(scene, name) for file, name in zip(file_names(names), names, strict=True)}
        with progress(len(slides) * len(FORMATS), "drawing", "files") as bar:

            def keep(name: str, picture: bytes) -> None:
                write_whole(directory / name, picture)
                bar.update()

            draw(slides, FORMATS, browser, keep)


def file_names(names: Iterable[str]) -> list[str]:
    """A name for a file of each chart. Charts of logged numbers have the names that somebody gave these, such as
    `loss/train` or `../loss`."""
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:LONGEST_FILE_NAME] or "chart"
        number = next(number for number in range(1, len(taken) + 2) if _numbered(plain, number) not in taken)
        taken.append(_numbered(plain, number))
    return taken


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"
