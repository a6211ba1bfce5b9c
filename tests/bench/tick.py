"""Compares a live tick of this page with one of `st.plotly_chart` in a fragment: `python -m tests.bench tick`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.driver import press, visit, wait_for_step
from tests.support.serving import launch, wait_until_healthy

SECONDS = 15
# Counts the charts that are added to the document.
MOUNTS = """() => {
  window.mounts = 0;
  const charts = (node) => node.nodeType === 1
    ? node.matches('.plot-container') + node.querySelectorAll('.plot-container').length : 0;
  new MutationObserver((changes) => {
    for (const change of changes) for (const node of change.addedNodes) window.mounts += charts(node);
  }).observe(document.body, { childList: true, subtree: true });
}"""


@dataclass(frozen=True)
class Cost:
    """The cost of a tick."""

    ticks: float
    """Ticks per second."""
    server: float
    """CPU time of the server process in ms."""
    size: float
    """kB sent to the browser."""
    mounts: float
    """Charts rebuilt."""


def print_ticks(chrome: str | None) -> None:
    """Measure both pages, one after another, in one browser, and print the results."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chrome or shutil.which("chromium"), args=FLAGS)
        log = Path(folder) / "log.txt"
        ours = _cost(browser, log, "app.py", _ours)
        theirs = _cost(browser, log, str(Path(__file__).with_name("peer_page.py")), _theirs)
        browser.close()
    for name, cost in (("this page", ours), ("st.plotly_chart in a fragment", theirs)):
        print(f"{name}: {cost.ticks:.1f} ticks/s; per tick {cost.server:.1f} ms of server CPU, {cost.size:.1f} kB, "
              f"{cost.mounts:.1f} charts rebuilt")  # fmt: skip
    print(f"ratios: server {theirs.server / ours.server:.1f}, bytes {theirs.size / ours.size:.0f}")


def _ours(page: Page, address: str) -> None:
    visit(page, address)
    press(page, "Train")
    wait_for_step(page, 300)  # by then, a worker process does the training


def _theirs(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_test_id("stPlotlyChart").nth(4).wait_for(state="attached", timeout=120_000)


def _cost(browser: Browser, log: Path, script: str, begin: Callable[[Page, str], None]) -> Cost:
    with launch(log, script=script) as (address, server):
        wait_until_healthy(address, server)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        sizes: list[int] = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sizes.append(len(frame))))
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.eventSourceMessageReceived", lambda event: sizes.append(len(event["data"].encode())))
        begin(page, address)
        process = psutil.Process(server.pid)
        page.evaluate(MOUNTS)
        sizes.clear()
        before = process.cpu_times()
        page.wait_for_timeout(1000 * SECONDS)
        after = process.cpu_times()
        ticks = sum(size > 300 for size in sizes) if script == "app.py" else _fragment_ticks(sizes)
        used = 1000 * (after.user + after.system - before.user - before.system)
        mounts = page.evaluate("window.mounts")
        page.close()
    return Cost(ticks / SECONDS, used / ticks, sum(sizes) / ticks / 1000, mounts / ticks)


def _fragment_ticks(sizes: list[int]) -> float:
    """Number of script runs, counted from Streamlit's frames: each run sends five charts."""
    return sum(size > 1_000 for size in sizes) / 5
