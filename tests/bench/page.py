"""Measures a visitor's waiting times: `python -m tests.bench page`."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.driver import press, slider, visit, wait_for_step
from tests.support.serving import launch, read_stream, wait_until_healthy

COLD_STARTS, WARM_VISITS = 3, 7
# Notes when each selector matches first, at the frame in which it is painted.
CLOCK = """(selectors) => {
  window.seen = selectors.map(() => 0);
  const look = () => {
    selectors.forEach((selector, i) => { if (document.querySelector(selector)) window.seen[i] ||= Date.now(); });
    requestAnimationFrame(look);
  };
  look();
}"""
BARS = "[aria-label='Expert utilization']"

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


@dataclass(frozen=True)
class Contestant:
    """An app whose first chart is timed."""

    script: str
    chart: str
    """The selector of the chart."""
    complete: str
    """The selector of the chart as Plotly draws it."""
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)
    """On a warm server, until the chart is complete."""


def measure(chrome: str | None) -> None:
    """Time the first chart on a cold and a warm server against a bare page, in turn, and ten slider moves; measure
    messages; print the results."""
    own = Contestant("app.py", f"{BARS} .graph svg", f"{BARS} .main-svg")
    bare = Contestant("tests/bench/bare_page.py", ".stPlotlyChart .main-svg", ".stPlotlyChart .main-svg")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chrome or shutil.which("chromium"), args=FLAGS)
        log = Path(folder) / "log.txt"
        for _ in range(COLD_STARTS):
            for one in (own, bare):
                started = time.perf_counter()
                with launch(log, script=one.script) as (address, server):
                    wait_until_healthy(address, server)
                    healthy = time.perf_counter() - started
                    one.cold.append(healthy + _visit(browser, address, one)[0])
        with launch(log) as (address, server), launch(log, script=bare.script) as (bare_address, bare_server):
            wait_until_healthy(address, server)
            wait_until_healthy(bare_address, bare_server)
            for visit_number in range(WARM_VISITS + 1):
                for one, where in ((own, address), (bare, bare_address)):
                    shown, drawn = _visit(browser, where, one)
                    if visit_number:  # the first one warms the server up
                        one.warm.append(shown)
                        one.drawn.append(drawn)
            print("Seconds to the first chart, medians; empty browser cache each time")
            print("| | this page | bare page | ratio |\n| --- | --- | --- | --- |")
            for words, name in (
                ("from `streamlit run`", "cold"), ("on a warm server", "warm"), ("until Plotly draws it", "drawn"),
            ):  # fmt: skip
                ours, theirs = (statistics.median(getattr(one, name)) for one in (own, bare))
                print(f"| {words} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            visit(page, address)
            _slider(page)
            _stream(page)
        browser.close()


def _visit(browser: Browser, address: str, one: Contestant) -> tuple[float, float]:
    """Seconds until a newcomer sees the chart, and until it is complete, as the page's own clock says: this process
    cannot ask while the page is busy."""
    with browser.new_context(viewport={"width": 1280, "height": 720}) as context:
        page = context.new_page()
        page.add_init_script(f"({CLOCK})({json.dumps([one.chart, one.complete])})")
        started = time.time()
        page.goto(address, wait_until="commit")
        page.wait_for_selector(one.complete)
        shown, complete = page.evaluate("window.seen")
        return shown / 1000 - started, complete / 1000 - started


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
