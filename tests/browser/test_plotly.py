"""Plotly.js that does not load at first: the page says so, and tries again until it does."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Route, expect


def test_a_plotly_that_fails_to_load_is_tried_again_and_the_page_says_so(context: BrowserContext, server: str) -> None:
    page = context.new_page()  # not the usual one: the browser reports the failures on its console
    attempts: list[str] = []

    def fail_twice(route: Route) -> None:
        attempts.append(route.request.url)
        if len(attempts) <= 2:
            route.abort()
        else:
            route.continue_()

    page.route("**/plotly-*.js", fail_twice)
    page.goto(server)
    notice = page.locator(".ecl .notice")
    expect(notice).to_have_text("The charts could not be loaded; trying again …")
    expect(page.get_by_role("region", name="Expert utilization").locator(".main-svg").first).to_be_visible()
    expect(notice).to_be_hidden()
    assert len(attempts) == 3
