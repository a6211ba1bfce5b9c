"""Difficult hosts: one runs app.py as a plain script, on another every script run fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from pages.visitor.hosting import APOLOGY
from tests.browser.conftest import watch_for_trouble
from tests.browser.driver import TIMEOUT, move, pause, press, region, wait_for_step
from tests.support.serving import launch, wait_until_healthy

BEFORE_APPLICATIONS = """
import streamlit
from streamlit.web import cli
from streamlit.web.server import app_discovery
del streamlit.App
app_discovery.discover_asgi_app = lambda path: app_discovery.AppDiscoveryResult(False, None, None)
cli.main()
"""
"""Streamlit's command line as before `st.App`, when every file was a plain script."""
FAILING = """
from streamlit.web import cli
from pages.text.notices import Notices
def show(self):
    raise RuntimeError("a secret of the host")
Notices.show = show
cli.main()
"""
"""A server on which every script run fails."""


def started(folder: Path, code: str) -> Iterator[str]:
    """Start a server with some code. Yields its address."""
    with launch(folder / "log.txt", starter=("-c", code)) as (address, process):
        wait_until_healthy(address, process)
        yield address


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    """The address of a host that runs app.py as a plain script."""
    yield from started(tmp_path, BEFORE_APPLICATIONS)
    assert "Traceback" not in (tmp_path / "log.txt").read_text(encoding="utf-8")


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[str]:
    """The address of a host on which every script run fails."""
    yield from started(tmp_path, FAILING)


def test_a_host_that_runs_the_app_as_a_plain_script_serves_the_whole_page_without_the_stream(
    context: BrowserContext, plain: str
) -> None:
    page = context.new_page()
    troubles = watch_for_trouble(page, plain)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))

    # The first request to this server is not for its main page.
    page.goto(f"{plain}/glossary?num_experts=4")
    links = page.get_by_role("navigation").get_by_role("link")
    expect(links).to_have_count(9, timeout=TIMEOUT)
    links.filter(has_text="Live").click()
    chart = region(page, "Expert utilization").locator(".main-svg").first
    expect(chart).to_be_visible(timeout=TIMEOUT)
    assert "num_experts=4" in page.url
    press(page, "Train")
    wait_for_step(page, 60)
    move(page, "Load-balancing coefficient α", 9)
    page.wait_for_function("decodeURIComponent(location.search).includes(':aux_loss_coef=0.1')", timeout=TIMEOUT)
    assert pause(page) >= 60
    page.wait_for_function(  # long curves are thinned
        "document.querySelector('[aria-label=\"Imbalance ratio\"] .graph')?.data?.[0]?.x.at(-1)"
        " > Number(document.querySelector('.ecl')?.dataset.step) - 5",
        timeout=TIMEOUT,
    )
    expect(chart).to_be_visible()
    expect(page.locator(".ecl .notice")).to_be_hidden()
    expect(page.get_by_role("button", name="Imbalance ratio as SVG")).to_have_count(0)

    assert not [url for url in requests if "/live/" in url or "plotly-" in url or "/slide/" in url]
    assert (
        httpx.get(f"{plain}/metrics").headers["content-type"].startswith("text/html")
    )  # Streamlit's own page, since there are no routes
    assert not troubles


def test_a_failing_script_apologizes_to_the_visitor_and_logs_the_cause_for_the_operator(
    context: BrowserContext, failing: str, tmp_path: Path
) -> None:
    page = context.new_page()
    page.goto(failing)
    expect(page.get_by_test_id("stAlert")).to_contain_text(APOLOGY, timeout=TIMEOUT)
    shown = page.locator("body").inner_text()
    assert "secret" not in shown
    assert "Error" not in shown
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "ERROR   streamlit.error_util: Uncaught app execution\nTraceback" in log
    assert "RuntimeError: a secret of the host" in log
    assert "moe_errors_total 0.0" not in httpx.get(f"{failing}/metrics").text
