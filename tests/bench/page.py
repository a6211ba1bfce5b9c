"""Measures a visitor's waiting times: `python -m tests.bench page`."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.driver import press, slider, visit, wait_for_step
from tests.support.serving import launch, read_stream, wait_until_healthy

# Sets window.waited, the ms from the key press until the bars show the changed knob.
TIMER = """() => {
  window.waited = null;
  const root = document.querySelector('.ecl'), before = Number(root.dataset.events), step = root.dataset.step;
  addEventListener('keydown', () => {
    const start = performance.now();
    const look = () => Number(root.dataset.events) > before && root.dataset.step !== step
      ? window.waited = performance.now() - start : requestAnimationFrame(look);
    look();
  }, { once: true, capture: true });
}"""


def measure(chrome: str | None) -> None:
    """Time the first chart on a cold and a warm server and ten slider moves; measure messages; print the results."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chrome or shutil.which("chromium"), args=FLAGS)
        started = time.perf_counter()
        with launch(Path(folder) / "log.txt") as (address, server):
            wait_until_healthy(address, server)
            healthy = time.perf_counter() - started
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            visit(page, address)
            print(
                f"first chart after `streamlit run`: {time.perf_counter() - started:.2f} s (healthy at {healthy:.2f} s)"
            )
            print(f"first chart on a warm server: {_first_charts(browser, address)}")
            _slider(page)
            _stream(page)
        browser.close()


def _first_charts(browser: Browser, address: str) -> str:
    times = []
    for _ in range(5):
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        page = context.new_page()
        started = time.perf_counter()
        visit(page, address)
        times.append(time.perf_counter() - started)
        context.close()
    return (
        f"median {statistics.median(times):.2f} s of {', '.join(f'{value:.2f}' for value in times)} (empty cache each)"
    )


def _slider(page: Page) -> None:
    press(page, "Train")
    wait_for_step(page, 60)
    slider(page, "Load-balancing coefficient α").focus()
    times = []
    for _ in range(10):
        page.evaluate(TIMER)
        page.keyboard.press("ArrowRight")
        page.wait_for_function("window.waited !== null")
        times.append(page.evaluate("window.waited"))
        step = int(page.locator(".ecl").get_attribute("data-step") or 0)
        wait_for_step(page, step + 40)  # past the steps in which two changes share a marker
    print(f"slider to bars: median {statistics.median(times):.0f} ms of {', '.join(f'{value:.0f}' for value in times)}")


def _stream(page: Page) -> None:
    with page.expect_request("**/live/*") as request:
        press(page, "Reset")
    press(page, "Train")
    sizes, steps = [], []
    with httpx.stream("GET", request.value.url, timeout=20) as response:
        for last, message, size in read_stream(response):
            if message["from"]:
                sizes.append(size)
                steps.append(message["to"] - message["from"])
            if last >= 600:
                break
    print(f"messages at 60 steps/s, 8 experts: median {statistics.median(sizes):.0f} B, largest {max(sizes)} B, "
          f"{statistics.median(steps):.0f} steps each")  # fmt: skip
