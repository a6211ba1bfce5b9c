"""The first minute on every screen: what explains itself, and what stays in sight."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import new_page
from tests.browser.driver import TIMEOUT, halt, press, region, slider, state, step_shown, tile, visit, wait_for_step

ALPHA = "Load-balancing coefficient α"
NO_SHIFT = 0.005
"""CLS that rounds to 0.00. A long word like “Nearly balanced” moves the sentence after it a little: 0.0003."""
# Notes the shifts of the layout that no input caused, as the web vital CLS counts them.
SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries())
      if (!hadRecentInput) window.shifts.push([value, ...sources.map(({ node }) => node?.outerHTML?.slice(0, 120))]);
  }).observe({ type: "layout-shift" });
}"""


def in_sight(page: Page, *others: Locator) -> None:
    """Assert that the verdict, Train, the map, the bars and others are inside the window, together."""
    size = page.viewport_size
    assert size
    train = page.locator("[data-command=toggle]")
    charts = [region(page, name).locator(".main-svg").first for name in ("Routing map", "Expert utilization")]
    for element in (page.locator(".ecl .state"), train, *charts, *others):
        left, top, right, bottom = edges(element)
        assert right - left > 20, element
        assert bottom - top > 10, element
        assert min(left, top, size["width"] - right, size["height"] - bottom) >= 0, (element, edges(element))
    _, bar_top, _, bar_bottom = edges(page.locator(".ecl .bar"))
    for chart in charts:
        _, top, _, bottom = edges(chart)
        assert top >= bar_bottom or bottom <= bar_top, "the bar covers a chart"


def edges(element: Locator) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, in pixels of the window."""
    box = element.bounding_box()
    assert box, element
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def own_alpha(page: Page) -> Locator:
    """The α slider of the board."""
    return page.locator(".ecl .alpha input")


@pytest.mark.parametrize(
    ("width", "height", "query"),
    [(800, 450, "?embed=true"), (390, 844, ""), (640, 360, ""), (1280, 720, "?embed=true")],
    ids=["embed", "phone", "zoomed to 200 %", "large embed"],
)
def test_all_that_matters_is_in_sight_at_once(
    home: BrowserContext, server: str, width: int, height: int, query: str
) -> None:
    with new_page(home, server, width, height) as page:
        visit(page, f"{server}/{query}")
        in_sight(page, own_alpha(page))
        press(page, "Train")
        wait_for_step(page, 150)
        in_sight(page, own_alpha(page))
        own_alpha(page).focus()
        for _ in range(9):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("decodeURIComponent(location.search).includes('aux_loss_coef=0.1')", timeout=TIMEOUT)
        expect(state(page)).to_have_text("Balanced", timeout=TIMEOUT)
        in_sight(page, own_alpha(page))


def test_on_a_phone_held_sideways_all_that_matters_is_in_sight(home: BrowserContext, server: str) -> None:
    with new_page(home, server, 844, 390) as page:
        visit(page, server)
        in_sight(page, slider(page, ALPHA))


def test_a_phone_has_the_other_controls_behind_a_button(home: BrowserContext, server: str) -> None:
    with new_page(home, server, 390, 844) as page:
        visit(page, server)
        expect(page.get_by_role("button", name="Step", exact=True)).to_be_hidden()
        page.get_by_role("button", name="More controls").click()
        press(page, "Step")
        wait_for_step(page, 1)
        page.mouse.move(195, 300)
        page.mouse.wheel(0, 1_500)
        page.wait_for_function("document.querySelector('.tiles')?.getBoundingClientRect().top < 300", timeout=TIMEOUT)
        assert edges(page.locator(".ecl .bar"))[3] == pytest.approx(844, abs=1), "the bar stays while the charts scroll"


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080)])
def test_presenting_shows_what_matters_in_large_type_and_leaves_no_trace(
    home: BrowserContext, server: str, width: int, height: int
) -> None:
    with new_page(home, server, width, height) as page:
        visit(page, server)
        before = page.locator(".ecl").evaluate("root => [root.style.cssText, root.className, location.href, scrollY]")
        usual = page.locator(".ecl .state").evaluate("line => parseFloat(getComputedStyle(line).fontSize)")
        press(page, "Present")
        page.wait_for_function("document.fullscreenElement?.matches('.ecl')", timeout=TIMEOUT)
        in_sight(page, own_alpha(page))
        assert page.locator(".ecl .state").evaluate("line => parseFloat(getComputedStyle(line).fontSize)") > 1.3 * usual
        page.keyboard.press("s")
        wait_for_step(page, 1)
        page.keyboard.press("t")
        wait_for_step(page, 60)
        for _ in range(9):
            page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowDown")
        expect(page.locator(".ecl .alpha output")).to_have_text("0.05")
        page.wait_for_function("decodeURIComponent(location.search).includes('aux_loss_coef=0.05')", timeout=TIMEOUT)
        page.keyboard.press("t")
        expect(page.locator("[data-command=toggle]")).to_have_text("Train", timeout=TIMEOUT)
        in_sight(page, own_alpha(page))
        page.keyboard.press("Escape")
        page.wait_for_function("!document.fullscreenElement", timeout=TIMEOUT)
        expect(page.get_by_role("button", name="Present", exact=True)).to_be_focused()
        expect(own_alpha(page)).to_be_hidden()
        after = page.locator(".ecl").evaluate("root => [root.style.cssText, root.className, location.href, scrollY]")
        assert (after[0], after[3]) == (before[0], before[3])
        step = step_shown(page)
        page.keyboard.press("s")
        page.wait_for_timeout(300)
        assert step_shown(page) == step, "keys act only while presenting"


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
def test_nothing_moves_while_the_router_collapses_and_recovers(
    home: BrowserContext, server: str, width: int, height: int
) -> None:
    with new_page(home, server, width, height) as page:
        visit(page, server)
        press(page, "Train")
        wait_for_step(page, 5)
        page.wait_for_timeout(700)  # a shift within half a second of an input does not count
        page.evaluate(SHIFTS)
        expect(state(page)).to_have_text("Collapsed", timeout=TIMEOUT)
        page.evaluate("document.querySelector('.ecl .rescue').click()")
        expect(page.locator(".ecl .evidence")).to_contain_text("back after", timeout=TIMEOUT)
        shifts = page.evaluate("window.shifts")
        assert sum(value for value, *_ in shifts) < NO_SHIFT, shifts


def test_before_the_first_step_the_page_says_what_to_watch_and_shows_no_empty_chart(page: Page, server: str) -> None:
    visit(page, server)
    expect(page.get_by_role("list", name="What to watch").get_by_role("listitem")).to_have_count(3)
    expect(page.locator(".charts.second .main-svg")).to_have_count(0)
    expect(region(page, "Routing map")).to_contain_text("Each dot is a token. Its colour is the expert that gets it.")
    words = page.locator(".ecl").inner_text()
    for term in ("nats", "1/E", "E·Σ", "f·P", "max/min"):
        assert term not in words.partition("Why f and P")[0], f"a newcomer does not know {term}"
    press(page, "Step")
    expect(page.get_by_role("list", name="What to watch")).to_be_hidden()
    expect(region(page, "Imbalance ratio").locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)


def test_chips_show_each_experts_colour_and_share_and_go_grey_when_it_dies(page: Page, server: str) -> None:
    visit(page, server)
    chips = page.get_by_role("list", name="Experts", exact=True).get_by_role("listitem")
    expect(chips).to_have_count(8)
    dot = "chip => getComputedStyle(chip, '::before').backgroundColor"
    colours = [chip.evaluate(dot) for chip in chips.all()]
    assert len(set(colours)) == 8
    assert sum(int(chip.inner_text().split()[1]) for chip in chips.all()) == pytest.approx(100, abs=4)
    press(page, "Train")
    wait_for_step(page, 220)
    halt(page)
    dead = [chip for chip in chips.all() if "dead" in chip.inner_text()]
    assert len(dead) == int(tile(page, "dead").split()[0]) >= 4
    page.wait_for_timeout(500)  # the colour fades
    assert {chip.evaluate(dot) for chip in dead}.isdisjoint(colours)
    assert len({chip.evaluate(dot) for chip in dead}) == 1


def test_pointing_at_a_step_in_one_chart_shows_it_in_all_charts_over_time(page: Page, server: str) -> None:
    visit(page, server)
    press(page, "Train")
    wait_for_step(page, 60)
    halt(page)
    chart = region(page, "Utilization over time")
    box = chart.locator(".graph").bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.4 * box["height"], steps=4)
    labels = {}
    for name in ("Utilization over time", "Imbalance ratio", "Task and load-balancing loss"):
        label = region(page, name).locator(".hoverlayer .legend")
        expect(label).to_be_visible(timeout=TIMEOUT)
        labels[name] = str(label.text_content())
    steps = [re.match(r"step (\d\d)", text) for text in labels.values()]
    assert len({step and step[1] for step in steps}) == 1, labels
    assert steps[0], labels
    assert all(f"expert {number} " in labels["Utilization over time"] for number in range(1, 9))
    page.mouse.move(5, 5)
    expect(region(page, "Imbalance ratio").locator(".hoverlayer .legend")).to_have_count(0, timeout=TIMEOUT)


def test_bars_and_dots_show_before_plotly_is_there(home: BrowserContext, server: str) -> None:
    page = home.new_page()
    page.route("**/plotly-*.js", lambda route: route.abort())
    page.goto(server)
    expect(region(page, "Expert utilization").locator(".sketch rect").nth(8)).to_be_visible(timeout=TIMEOUT)
    expect(region(page, "Routing map").locator(".sketch circle")).to_have_count(400)
    page.unroute("**/plotly-*.js")
    expect(region(page, "Expert utilization").locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
    expect(page.locator(".sketch")).to_have_count(0)
    page.close()
