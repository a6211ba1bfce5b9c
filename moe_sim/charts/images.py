"""Figures → PNG and SVG files, drawn in one session of an installed Chromium, without network access."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from moe_sim.config.errors import UserError

if TYPE_CHECKING:
    from kaleido import Kaleido

FORMATS = ("svg", "png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONGEST_DRAWING = 60
"""The timeout for one figure, in seconds."""
LONGEST_CLOSING = 5
"""The timeout for the end of the browser, in seconds."""


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
        KeyboardInterrupt: after Ctrl-C, or after SIGTERM where it means the same; the browser has ended.
    """
    try:
        asyncio.run(_draw(figures, formats, browser, done))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _draw(
    figures: Mapping[str, go.Figure], formats: tuple[str, ...], browser: str, done: Callable[[str, bytes], None]
) -> None:
    # Imported here, because nothing else needs it.
    from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError, KaleidoError

    broken = (
        BrowserClosedError, BrowserFailedError, ChromeNotFoundError, KaleidoError, OSError,
        asyncio.InvalidStateError,  # the browser ended while the first command was written to it
    )  # fmt: skip
    task = asyncio.current_task()
    assert task is not None
    _cancel_at_sigterm(task)
    try:
        async with _session(browser) as session:
            for name, figure in figures.items():
                for format_ in formats:
                    size = {"width": figure.layout.width, "height": figure.layout.height}
                    opts = {"format": format_, "scale": 1, **size}
                    drawing = asyncio.ensure_future(session.calc_fig(figure, opts=opts))
                    try:
                        picture = await asyncio.shield(drawing)
                    finally:  # after Ctrl-C the browser finishes this drawing instead of reporting an error
                        await asyncio.gather(drawing, return_exceptions=True)
                    done(f"{name}.{format_}", picture)
    except Exception as error:
        if task.cancelling():  # Ctrl-C, hidden by the browser's own error
            raise asyncio.CancelledError from None
        if isinstance(error, TimeoutError):
            raise CannotDrawError(f"{browser} did not finish a figure in {LONGEST_DRAWING} seconds.") from None
        if isinstance(error, broken):
            raise CannotDrawError(f"{browser} did not start, or broke off while it drew.") from None
        raise


def _cancel_at_sigterm(task: asyncio.Task[None]) -> None:
    """Lets SIGTERM, if it is to raise KeyboardInterrupt, cancel the task as Ctrl-C does: if it were raised within the
    event loop, the browser would never end. The second SIGTERM ends the process."""
    raises = signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    if not raises or threading.current_thread() is not threading.main_thread():
        return
    loop = task.get_loop()

    def cancel() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        task.cancel()

    with suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, cancel)


@asynccontextmanager
async def _session(browser: str) -> AsyncIterator[Kaleido]:
    """A browser that draws; its own log stays silent: what fails is raised, and the rest is noise of its end."""
    from kaleido import Kaleido

    for library in ("kaleido", "choreographer"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    # Kaleido disables Chromium's sandbox, which does not work as root. Only our own figures are drawn.
    session = Kaleido(path=browser, mathjax=False, timeout=LONGEST_DRAWING)
    starting = asyncio.ensure_future(session.__aenter__())
    try:
        await asyncio.shield(starting)
        yield session
    finally:
        # After Ctrl-C it may still be starting. Cancelled then, it would never end.
        await asyncio.wait([starting], timeout=LONGEST_CLOSING)
        if starting.done() and starting.exception() is None:
            # choreographer 1.4 waits forever if it reads the browser's last answer and its end at once.
            with suppress(TimeoutError):
                await asyncio.wait_for(session.__aexit__(None, None, None), LONGEST_CLOSING)
