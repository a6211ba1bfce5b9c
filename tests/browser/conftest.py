"""A real server and a real Chromium, shared by all browser tests."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect, sync_playwright

from tests.browser.driver import TIMEOUT
from tests.support.serving import serving

expect.set_options(timeout=TIMEOUT)  # a loaded machine is slow, not wrong

Scheme = Literal["light", "dark"]
Motion = Literal["reduce", "no-preference"]
MOVING = {"test_first_minute", "test_story"}
"""Files of tests whose pages move as for most visitors. Without motion, a page that trains computes a quarter less."""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server. Fails at the end if its log has a traceback."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving(log) as address:
        yield address
    assert "Traceback" not in log.read_text(encoding="utf-8")


EXECUTABLE = os.environ.get("CHROME") or shutil.which("chromium") or shutil.which("google-chrome") or None
"""The browser that tests/run.sh found or installed; None for Playwright's own."""


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def home(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A browser with a profile on disk, which keeps compiled scripts: a page opens in half the time. `page` clears what
    a visitor's page may store."""
    profile = tmp_path_factory.mktemp("profile")
    context = playwright.chromium.launch_persistent_context(profile, executable_path=EXECUTABLE, args=FLAGS)
    context.set_default_timeout(TIMEOUT)
    yield context
    context.close()


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """A browser for visitors with nothing in common."""
    browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=FLAGS)
    yield browser
    browser.close()


def new_visitor(
    chromium: Browser, width: int = 1280, height: int = 720, scheme: Scheme = "light", **more: Any
) -> BrowserContext:
    """A visitor's browser with empty storage and the shared timeout."""
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **more)
    context.set_default_timeout(TIMEOUT)
    return context


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A visitor's browser at 1280×720 in the light theme."""
    context = new_visitor(chromium)
    yield context
    context.close()


@pytest.fixture
def page(home: BrowserContext, server: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page at 1280×720 in the light theme; the test fails at its end on any console error or request to another
    machine."""
    with new_page(home, server, motion="no-preference" if request.path.stem in MOVING else "reduce") as page:
        yield page


@contextmanager
def new_page(
    home: BrowserContext,
    server: str,
    width: int = 1280,
    height: int = 720,
    scheme: Scheme = "light",
    motion: Motion = "reduce",
) -> Iterator[Page]:
    """`page` in another size or theme."""
    page = home.new_page()
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme, reduced_motion=motion)
    troubles = watch_for_trouble(page, server)
    try:
        yield page
    finally:
        for left in home.pages[1:]:  # the first is the browser's own empty one
            if left.url.startswith("http"):
                left.evaluate("localStorage.clear(); sessionStorage.clear()")
            left.close()
        home.clear_cookies()
    assert not troubles


def watch_for_trouble(page: Page, server: str) -> list[str]:
    """A list that fills with console errors, script errors and requests that leave this machine."""
    troubles: list[str] = []
    # Streamlit, opened at a subpage, first looks for its server below that page, then above it.
    expected = re.compile(rf"{re.escape(server)}/\w+/_stcore/(health|host-config)")

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not expected.fullmatch(message.location["url"]):
            troubles.append(f"{message.text} ({message.location['url']})")

    page.on("console", note)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    local = (server, server.replace("http", "ws"), "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else troubles.append(request.url))
    return troubles


@pytest.fixture(scope="session")
def shots() -> Path:
    """The folder of screenshots, for people to look at."""
    folder = Path(__file__).parent / "shots"
    folder.mkdir(exist_ok=True)
    return folder
