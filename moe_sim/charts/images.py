"""Figures → PNG and SVG files, drawn in one session of an installed Chromium, without network access."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping

import plotly.graph_objects as go

from moe_sim.config.errors import UserError

FORMATS = ("svg", "png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONGEST_DRAWING = 60
"""The timeout for one figure, in seconds."""


class CannotDrawError(UserError):
    """No working browser was found."""


def find_browser(named: str | None) -> str:
    """The path of a Chromium or Chrome: the one named (by `BROWSER_PATH`), else the first of `BROWSERS` on the PATH.

    Raises:
        CannotDrawError: if there is none.
    """
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise CannotDrawError(
            "Figures are drawn by Chromium or Chrome, and none is on the PATH: install one (apt-get install chromium) "
            "or set BROWSER_PATH to it."
        )
    return found


def draw(
    figures: Mapping[str, go.Figure], formats: tuple[str, ...], browser: str, done: Callable[[str, bytes], None]
) -> None:
    """Draw figures at the size that their layout has.

    Args:
        figures: by their names.
        formats: of `FORMATS`.
        browser: the path of a Chromium or Chrome.
        done: called for each drawing with its file name (`name.format`) and the bytes of the file.

    Raises:
        CannotDrawError: if the browser does not start or does not finish a drawing.
    """
    asyncio.run(_draw(figures, formats, browser, done))


async def _draw(
    figures: Mapping[str, go.Figure], formats: tuple[str, ...], browser: str, done: Callable[[str, bytes], None]
) -> None:
    # Imported here, because nothing else needs it.
    from kaleido import Kaleido
    from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError, KaleidoError

    broken = (
        BrowserClosedError, BrowserFailedError, ChromeNotFoundError, KaleidoError, OSError,
        asyncio.InvalidStateError,  # the browser ended while the first command was written to it
    )  # fmt: skip
    try:
        # Kaleido disables Chromium's sandbox, which does not work as root. Only our own figures are drawn.
        async with Kaleido(path=browser, mathjax=False, timeout=LONGEST_DRAWING) as session:
            for name, figure in figures.items():
                for format_ in formats:
                    size = {"width": figure.layout.width, "height": figure.layout.height}
                    drawing = session.calc_fig(figure, opts={"format": format_, "scale": 1, **size})
                    # Shielded: after Ctrl-C the browser finishes this drawing instead of reporting an error.
                    picture = await asyncio.shield(drawing)
                    done(f"{name}.{format_}", picture)
    except Exception as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # Ctrl-C, hidden by the browser's own error
            raise asyncio.CancelledError from None
        if isinstance(error, TimeoutError):
            raise CannotDrawError(f"{browser} did not finish a figure in {LONGEST_DRAWING} seconds.") from None
        if isinstance(error, broken):
            raise CannotDrawError(f"{browser} did not start, or broke off while it drew.") from None
        raise
