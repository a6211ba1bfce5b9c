"""A real server and a real Chromium, shared by all browser tests."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.driver import PATIENCE
from tests.support.serving import serving

expect.set_options(timeout=PATIENCE)  # a loaded machine is slow, not wrong

Scheme = Literal["light", "dark"]
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


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser that tests/run.sh found or installed, or else Playwright's own."""
    executable = os.environ.get("CHROME") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable or None, args=FLAGS)
        yield browser
        browser.close()


def new_visitor(
    chromium: Browser, width: int = 1280, height: int = 720, scheme: Scheme = "light", **more: Any
) -> BrowserContext:
    """A visitor's browser with empty storage and the shared timeout."""
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **more)
    context.set_default_timeout(PATIENCE)
    return context


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A visitor's browser at 1280×720 in the light theme."""
    context = new_visitor(chromium)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, server: str) -> Iterator[Page]:
    """A page; the test fails at its end on any console error or request to another machine."""
    page = context.new_page()
    troubles = watch_for_trouble(page, server)
    yield page
    assert not troubles


def watch_for_trouble(page: Page, server: str) -> list[str]:
    """A list that fills with console errors, script errors and requests that leave this machine."""
    troubles: list[str] = []
    # Streamlit, opened at a subpage, first looks for its server below that page, then above it.
    expected = re.compile(rf"{re.escape(server)}/\w+/_stcore/(health|host-config)")

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not expected.fullmatch(message.location["url"]):
            troubles.append(message.text)

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
