"""The Compare page in a real browser: runs in lockstep on shared axes, and a knob changed in one of them."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import new_visitor, watch_for_trouble
from tests.browser.driver import (
    TIMEOUT,
    marks,
    move,
    pause,
    press,
    region,
    train_slowly,
    visit,
    wait_for_points,
    wait_for_step,
)

OVER_TIME = "Utilization over time"


def open_page(page: Page, address: str) -> None:
    page.goto(address)
    for name in ("A: Expert utilization", "B: Expert utilization"):
        expect(region(page, name).locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)


def lines(page: Page, chart: str) -> list[dict[str, list[float]]]:
    """x and y of every trace of a chart."""
    graph = region(page, chart).locator(".graph")
    return graph.evaluate("graph => graph.data.map(({ x, y }) => ({ x: [...x], y: [...y] }))")


def trained(page: Page, steps: int) -> int:
    """Train for at least `steps` steps, then pause. Returns the step."""
    train_slowly(page)
    wait_for_step(page, steps)
    stopped = pause(page)
    wait_for_points(page, "Task loss", stopped)
    return stopped


def test_two_runs_are_identical_until_a_knob_changes_in_one_of_them(page: Page, server: str, shots: Path) -> None:
    open_page(page, f"{server}/compare?seed=3&b=")
    summary = page.locator(".ecl .difference")
    expect(summary).to_have_text("A and B are identical. Change something in B.")
    changed_at = trained(page, 40)
    first, other = lines(page, "Task loss")
    assert first == other
    assert first["x"] == list(range(1, changed_at + 1))

    press(page, "Change …")
    value = page.get_by_test_id("stPopoverBody").get_by_role("slider").first
    value.focus()
    for _ in range(9):
        value.press("ArrowRight")
    expect(value).to_have_attribute("aria-valuetext", "0.1")
    press(page, "Change it now, in the current run")
    expect(summary).to_have_text(
        f"A and B differ only in α. A: α = 0. B: α = 0, then 0.1 from step {changed_at}. "
        "They have the same data and the same initial weights.",
        timeout=TIMEOUT,
    )
    page.keyboard.press("Escape")
    assert page.evaluate("new URLSearchParams(location.search).get('b')") == f"{changed_at}:aux_loss_coef=0.1"

    steps = trained(page, changed_at + 60)
    first, other = lines(page, "Task loss")
    assert first["x"] == other["x"] == list(range(1, steps + 1))
    assert first["y"][:changed_at] == other["y"][:changed_at]
    assert first["y"][-1] != other["y"][-1]
    (difference,) = lines(page, "Task loss compared with A")
    assert not any(difference["y"][:changed_at])
    assert difference["y"][-1] == other["y"][-1] - first["y"][-1]
    assert "B: α 0 → 0.1" in marks(page, "Task loss")
    page.screenshot(path=shots / "compare.png")
    for name, words in (("A", []), ("B", ["α 0 → 0.1"])):
        chart = region(page, f"{name}: {OVER_TIME}")
        chart.scroll_into_view_if_needed()
        wait_for_points(page, f"{name}: {OVER_TIME}", steps)
        assert [mark for mark in marks(page, f"{name}: {OVER_TIME}") if "→" in mark] == words
    page.screenshot(path=shots / "compare-later.png")


def test_an_older_message_of_the_page_does_not_close_a_newly_opened_tab(page: Page, server: str) -> None:
    visit(page, f"{server}?tab=router")
    press(page, "Train")
    for name in ("Capacity", "Devices", "Variance", "Specialization"):
        page.get_by_role("tab", name=name, exact=True).click()
    move(page, "Load-balancing coefficient α", 3)
    page.get_by_role("tab", name="Inference", exact=True).click()
    page.wait_for_function(
        "() => { const query = new URLSearchParams(location.search);"
        " return query.get('tab') === 'inference' && query.get('events')?.endsWith(':aux_loss_coef=0.001') }",
        timeout=TIMEOUT,
    )
    expect(page.get_by_test_id("stStatusWidget")).to_be_hidden(timeout=TIMEOUT)
    expect(page.get_by_role("tab", name="Inference", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tabpanel", name="Inference", exact=True)).to_be_visible()
    press(page, "Pause")


def test_four_runs_fit_on_a_phone(chromium: Browser, server: str, shots: Path) -> None:
    context = new_visitor(chromium, 390, 844, "dark", has_touch=True)
    page = context.new_page()
    troubles = watch_for_trouble(page, server)
    page.goto(f"{server}/compare?b=0:aux_loss_coef=0.01&c=0:aux_loss_coef=0.1&d=0:num_experts=20")
    expect(region(page, "A: Expert utilization").locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
    for name in "ABCD":
        chart = region(page, f"{name}: Expert utilization")
        chart.scroll_into_view_if_needed()
        expect(chart.locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
    assert page.evaluate(
        "[document.scrollingElement, document.querySelector('.stMain')]"
        ".every(element => element.scrollWidth <= element.clientWidth)"
    )
    page.screenshot(path=shots / "compare-phone.png")
    context.close()
    assert not troubles
