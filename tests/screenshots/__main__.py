"""Takes the README's pictures from real runs: `python -m tests.screenshots`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.driver import move, press, step_shown, visit, wait_for_step
from tests.support.serving import serving

FOLDER = Path(__file__).parent


def rescue(page: Page, address: str) -> None:
    """Collapse until step 240, α = 0.1 from there, picture at step 620."""
    visit(page, address)
    press(page, "Train")
    wait_for_step(page, 230)
    page.screenshot(path=FOLDER / "collapsed.png")
    move(page, "Load-balancing coefficient α", 9)
    wait_for_step(page, 620)
    page.mouse.move(640, 5)
    page.screenshot(path=FOLDER / "rescued.png")
    print(f"rescued at step {step_shown(page)}")


def text(page: Page, address: str) -> None:
    """The text task with its specialists, dark."""
    visit(page, address)
    page.get_by_text("More scenarios", exact=True).click()
    press(page, "Text")
    press(page, "Train")
    wait_for_step(page, 700)
    page.mouse.move(640, 5)
    page.screenshot(path=FOLDER / "text-dark.png")


def opened(browser: Browser, scheme: str) -> Page:
    """A projector-sized page in that colour scheme."""
    return browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme=scheme)  # type: ignore[arg-type]


def main() -> None:
    """Start a server and a browser, and take all pictures."""
    executable = os.environ.get("CHROME") or shutil.which("chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=executable or None, args=FLAGS)
        with serving(Path(folder) / "log.txt") as address:
            rescue(opened(browser, "light"), address)
            text(opened(browser, "dark"), address)
        browser.close()


if __name__ == "__main__":
    main()
