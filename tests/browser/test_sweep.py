"""The Sweep page in a real browser: the gallery, then a visitor's sweep whose results arrive, that can be cancelled,
and whose cells open as live runs."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, Position, expect

from tests.browser.conftest import watch_for_trouble
from tests.browser.driver import TIMEOUT, press, visit, wait_for_step

CURVE = ".st-key-sweep-u-curve"
GRID = "[data-testid=stDataFrame] [data-testid=data-grid-canvas]"
FIRST_LINK: Position = {"x": 25, "y": 53}
"""Position of the first row's link in the table, which is drawn on a canvas."""


def field(page: Page, name: str) -> Locator:
    return page.get_by_test_id("stSidebar").get_by_label(name, exact=True)


def fill(page: Page, name: str, text: str) -> None:
    """Enter a text or a number in the form."""
    field(page, name).fill(text)
    field(page, name).press("Enter")


def open_page(page: Page, server: str) -> None:
    visit(page, server)
    page.get_by_role("link", name="Sweep", exact=True).click()
    expect(page.locator(f"{CURVE} .main-svg").first).to_be_visible(timeout=TIMEOUT)


def points(page: Page) -> int:
    """Number of runs in the U-curve."""
    return page.evaluate(
        f"document.querySelector('{CURVE} .js-plotly-plot').data"
        ".filter(trace => trace.name.endsWith('runs')).reduce((sum, trace) => sum + trace.x.length, 0)"
    )


def test_the_gallery_shows_at_once_and_its_views_open(page: Page, server: str) -> None:
    open_page(page, server)
    expect(page.get_by_text("python -m moe_sim sweep aux_loss_coef=0,0.001", exact=False)).to_be_visible()
    for name, chart in (("Trade-off", "trade-off"), ("Phase diagram", "phase-diagram"),
                        ("Parallel coordinates", "parallel-coordinates")):  # fmt: skip
        page.get_by_role("radio", name=name, exact=True).click()
        expect(page.locator(f".st-key-sweep-{chart} .main-svg").first).to_be_visible(timeout=TIMEOUT)
    page.get_by_role("radio", name="Table", exact=True).click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=TIMEOUT)


def test_a_sweep_shows_its_results_as_they_arrive_and_a_cell_opens_as_a_live_run(page: Page, server: str) -> None:
    open_page(page, server)
    fill(page, "Seeds", "2")
    fill(page, "Steps", "400")
    press(page, "Start")
    expect(page.get_by_text("runs, about", exact=False).or_(page.get_by_text("a few seconds left"))).to_be_visible(
        timeout=TIMEOUT
    )
    page.wait_for_function(
        f"(document.querySelector('{CURVE} .js-plotly-plot')?.data ?? [])"
        ".some(trace => trace.name.endsWith('runs') && trace.x.length && trace.x.length < 14)",
        timeout=TIMEOUT,
    )
    assert points(page) > 0
    press(page, "Cancel")
    expect(page.get_by_text("Start the same sweep again to run only what is missing.", exact=False)).to_be_visible(
        timeout=TIMEOUT
    )
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=TIMEOUT)
    page.get_by_role("radio", name="Table", exact=True).click()
    cells = page.get_by_test_id("stDataFrame")
    expect(cells.locator("canvas").first).to_be_visible(timeout=TIMEOUT)
    cells.hover(position=FIRST_LINK)
    page.wait_for_function(
        f"(grid => grid && getComputedStyle(grid).cursor === 'pointer')(document.querySelector('{GRID}'))",
        timeout=TIMEOUT,
    )
    with page.context.expect_page(timeout=TIMEOUT) as opened:
        cells.click(position=FIRST_LINK)
    live = opened.value
    troubles = watch_for_trouble(live, server)
    expect(live.locator(".ecl")).to_be_visible(timeout=TIMEOUT)
    wait_for_step(live, 10)
    assert "autoplay=1" in live.url
    assert not troubles
