"""The queue when more visitors train than the server allows at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.driver import TIMEOUT, press, region, visit, wait_for_step
from tests.support.serving import serving


@pytest.fixture
def visitors(context: BrowserContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two pages on a server that trains one run at a time."""
    monkeypatch.setenv("MOE_SIM_RUNS", "1")
    with serving(tmp_path / "log.txt") as address:
        pages = [context.new_page() for _ in range(2)]
        for seed, page in enumerate(pages):
            visit(page, f"{address}?seed={seed}")
        yield pages
        context.close()


def test_a_waiting_visitor_sees_the_position_and_a_lecture_to_watch_and_trains_next(visitors: list[Page]) -> None:
    first, second = visitors
    press(first, "Train")
    wait_for_step(first, 5)
    press(second, "Train")
    queue = second.locator(".queue")
    expect(queue).to_contain_text("You are number 1 in the queue", timeout=TIMEOUT)
    expect(queue.get_by_role("link")).to_have_count(0)
    press(first, "Share")
    press(first, "Start a lecture")
    with second.context.expect_page() as opened:
        queue.get_by_role("link", name="Watch a lecture meanwhile").click(timeout=TIMEOUT)
    expect(region(opened.value, "Expert utilization")).to_be_visible(timeout=TIMEOUT)
    wait_for_step(opened.value, 5)

    press(first, "Close")
    press(first, "Reset")
    wait_for_step(second, 5)
    expect(queue).to_be_hidden()
