"""The memory of a page that shows a large run: `python -m tests.bench memory`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.driver import press, set_speed, visit, wait_for_step
from tests.support.serving import launch, wait_until_healthy

LARGE = "?v=3&num_layers=6&num_experts=64&batch_tokens=64"
STEPS, PATIENCE = 2_000, 900_000
"""Of the run, and milliseconds to wait for it."""


def print_memory(chrome: str | None) -> None:
    """Print the size of the script heap at step 1 and at the end, of all layers and of one."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chrome or shutil.which("chromium"), args=FLAGS)
        with launch(Path(folder) / "log.txt") as (address, server):
            wait_until_healthy(address, server)
            page = browser.new_page()
            visit(page, f"{address}/{LARGE}")
            press(page, "Step")
            wait_for_step(page, 1)
            print(f"6 layers of 64 experts, at step 1: {heap(page):.0f} MB", flush=True)
            set_speed(page, "0")
            press(page, "Train")
            wait_for_step(page, STEPS, PATIENCE)
            print(f"at step {STEPS:,}: {heap(page):.0f} MB", flush=True)
            page.get_by_label("Layer", exact=True).select_option("4")
            page.wait_for_timeout(5_000)
            print(f"one of its layers: {heap(page):.0f} MB", flush=True)
        browser.close()


def heap(page: Page) -> float:
    """MB of the page's scripts after a garbage collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["JSHeapUsedSize"]) / 1e6
