"""Pictures of every page on every screen, to look at: `python -m tests.screenshots.everything FOLDER [PAGE ...]`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.driver import TIMEOUT, press, wait_for_step
from tests.support.serving import serving

SIZES = {
    "projector": (1280, 720), "large": (1920, 1080), "tablet": (820, 1180), "phone": (390, 844),
    "phone-sideways": (844, 390), "embed": (800, 450),
}  # fmt: skip
SCHEMES = ("light", "dark")
PAGES = {
    "live": "", "compare": "compare", "sweep": "sweep", "your-model": "your_model", "learn": "learn",
    "museum": "museum", "anatomy": "anatomy", "quiz": "quiz", "glossary": "glossary",
    "language": "?v=3&task=language&num_layers=3&top_k=2&renormalize=on&batch_tokens=512",
}  # fmt: skip
TRAINS = ("live", "compare", "learn", "language")
DURING, AFTER = 60, 260
"""Steps of the pictures while a run trains and once the router has collapsed."""
SETTLED = 900
"""Milliseconds after which a page has drawn what is in sight."""


def take(browser: Browser, address: str, page_name: str, size: str, scheme: str, folder: Path) -> None:
    """Before, during and after training, where the page trains."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    link = PAGES[page_name]
    embed = f"{'&' if '?' in link else '?'}embed=true" if size == "embed" else ""
    page.goto(f"{address}/{link}{embed}")
    page.get_by_test_id("stMainBlockContainer").wait_for(timeout=TIMEOUT)
    if page_name in TRAINS:
        page.locator(".ecl .state, .ecl .difference").first.wait_for(timeout=TIMEOUT)
    shoot(page, folder / f"{page_name}-{size}-{scheme}-1-before.png")
    if page_name in TRAINS:
        press(page, "Train")
        for words, step in (("2-during", DURING), ("3-after", AFTER)):
            wait_for_step(page, step)
            shoot(page, folder / f"{page_name}-{size}-{scheme}-{words}.png")
    page.close()


def shoot(page: Page, path: Path) -> None:
    """A picture of what is in the window, once the page has come."""
    page.locator(".stApp[data-test-script-state=notRunning]").wait_for(timeout=TIMEOUT)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=TIMEOUT)
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=path)


def main() -> None:
    """Start a server and a browser, and take all pictures."""
    folder, pages = Path(sys.argv[1]), sys.argv[2:] or list(PAGES)
    folder.mkdir(parents=True, exist_ok=True)
    executable = os.environ.get("CHROME") or shutil.which("chromium")
    with sync_playwright() as playwright, serving(folder / "server.log") as address:
        browser = playwright.chromium.launch(executable_path=executable or None, args=FLAGS)
        for name in pages:
            for size in SIZES:
                for scheme in SCHEMES:
                    take(browser, address, name, size, scheme, folder)
            print(f"{name}: done", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
