"""Accessibility of every page, light and dark, wide and narrow: the rules of axe, contrast, and a landmark of links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from moe_sim.teaching.course.catalogue import COURSE
from moe_sim.teaching.course.lesson import ComparisonLesson, TraceLesson
from tests.browser.conftest import Scheme, new_page
from tests.browser.driver import TIMEOUT, halt, open_tab, press, train_slowly, visit, wait_for_step

GRAVE = ("serious", "critical")
ALSO = ("heading-order",)
"""Rules of less weight that count all the same: people who do not see the page find their way by its headings."""
SIZES = {"desktop": (1280, 720), "phone": (390, 844)}
SIGNS = {
    "Live": ".ecl .main-svg", "Compare": ".ecl.compare .main-svg", "Sweep": ".st-key-sweep-u-curve .main-svg",
    "Your model": ".st-key-trace-experts_by_layer .main-svg",
    "Learn": "button:has-text('Start this lesson')", "Museum": "button:has-text('Start this exhibit')",
    "Anatomy": "h1:has-text('Anatomy')",
    "Quiz": "h1:has-text('Quiz')", "Glossary": "h1:has-text('Glossary')",
}  # fmt: skip
"""Every page, and an element that shows once it is open."""
LEAST_CONTRAST, LEAST_CONTRAST_LARGE = 4.5, 3.0
"""WCAG 2.2, 1.4.3. Large text has 24 px, or 18.66 px in bold."""
FAINT_TEXTS = """([least, leastLarge]) => {
  const unread = 'svg, script, style, .unseen, .announcer, [data-testid=stIconMaterial],' +
    ':is(:disabled, label:has(:disabled)):not([class*=st-key-quiz] *)'
  const thumb = ':has(> [data-testid=stSliderThumbValue])'
  const parse = colour => {
    const numbers = colour.match(/[\\d.]+/g).map(Number), scale = colour.startsWith('color(') ? 255 : 1
    return [...numbers.slice(0, 3).map(one => scale * one), numbers[3] ?? 1]
  }
  const over = (top, under, opacity) => [0, 1, 2].map(i => under[i] + top[3] * opacity * (top[i] - under[i]))
  const light = colour => colour
    .map(one => one / 255).map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, i) => sum + [0.2126, 0.7152, 0.0722][i] * one, 0)
  const faint = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement
    const shown = element.checkVisibility({ visibilityProperty: true, opacityProperty: true })
    if (!shown || !/[\\p{L}\\p{N}]/u.test(node.data) || element.closest(unread)) continue
    const line = []
    for (let one = element; one; one = one.parentElement) line.unshift(one)
    let ground = [255, 255, 255], ink = ground, opacity = 1
    for (const one of line) {
      const style = getComputedStyle(one)
      opacity *= Number(style.opacity)
      if (!one.matches(thumb)) ground = over(parse(style.backgroundColor), ground, opacity)
      ink = over(parse(style.color), ground, opacity)
    }
    const [low, high] = [light(ink), light(ground)].sort((one, other) => one - other)
    const { fontSize, fontWeight } = getComputedStyle(element), size = parseFloat(fontSize)
    const large = size >= 24 || (size >= 18.66 && fontWeight >= 700)
    const contrast = (high + 0.05) / (low + 0.05)
    if (contrast < (large ? leastLarge : least)) faint.push(`${contrast.toFixed(2)}: ${node.data.trim().slice(0, 60)}`)
  }
  return faint
}"""
"""A script that lists the texts with too little contrast: colours and opacities of all ancestors laid over each other.
It leaves out charts and, as WCAG does, disabled controls, except the quiz's answers, which are there to be read.
A slider's value stands beside its thumb, not on it."""


def troubles(page: Page, where: str) -> Iterator[str]:
    """Each grave violation of an axe rule on the page as it is now, and each faint text."""
    expect(page.locator(".stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=TIMEOUT)
    options = {"resultTypes": ["violations"]}
    found: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    for violation in found:
        if violation["impact"] in GRAVE or violation["id"] in ALSO:
            for node in violation["nodes"]:
                yield f"{where}: {violation['id']}: {node['html'][:200]} {node['failureSummary']}"
    for text in page.evaluate(FAINT_TEXTS, [LEAST_CONTRAST, LEAST_CONTRAST_LARGE]):
        yield f"{where}: contrast {text}"


def open_sidebar(page: Page) -> None:
    """Open the sidebar if the page is too narrow to show it all the time."""
    links = page.get_by_role("navigation").get_by_role("link")
    opener = page.get_by_test_id("stExpandSidebarButton")
    expect(links.first.or_(opener).first).to_be_visible(timeout=TIMEOUT)
    if opener.is_visible():
        opener.click()
    expect(links).to_have_count(len(SIGNS), timeout=TIMEOUT)


def close_sidebar(page: Page) -> None:
    """Close the sidebar where it covers the page."""
    if page.viewport_size and page.viewport_size["width"] < 768:
        opener = page.get_by_test_id("stExpandSidebarButton")
        if not opener.is_visible():
            page.get_by_test_id("stSidebarCollapseButton").locator("button").click()
        expect(opener).to_be_visible(timeout=TIMEOUT)
        expect(page.get_by_test_id("stSidebar")).not_to_be_in_viewport(timeout=TIMEOUT)


def turn_to(page: Page, name: str) -> None:
    """Follow a page link of the navigation landmark."""
    open_sidebar(page)
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
    expect(page.locator(SIGNS[name]).first).to_be_attached(timeout=TIMEOUT)
    if name not in ("Live", "Learn", "Museum", "Compare"):
        expect(page.locator(".ecl")).to_have_count(0, timeout=TIMEOUT)
    expect(page.locator("[data-stale=true]")).to_have_count(0, timeout=TIMEOUT)
    close_sidebar(page)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_breaks_a_grave_rule_of_axe_or_has_faint_text(
    home: BrowserContext, server: str, theme: Scheme, size: str
) -> None:
    width, height = SIZES[size]
    with new_page(home, server, width, height, theme) as page:
        found = list(walk(page, server))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("theme", "size"), [("light", "phone"), ("dark", "desktop")])
def test_nor_does_the_page_of_a_language_model(home: BrowserContext, server: str, theme: Scheme, size: str) -> None:
    width, height = SIZES[size]
    with new_page(home, server, width, height, theme) as page:
        visit(page, f"{server}?v=3&task=language&num_layers=2&top_k=2&num_experts=4&batch_tokens=64&tab=prompt")
        close_sidebar(page)
        press(page, "Train")
        wait_for_step(page, 40)
        halt(page)
        panel = open_tab(page, "Prompt")
        panel.get_by_label("Expert switched off").select_option("2-1")
        press(page, "Continue")
        expect(panel.locator(".losses tr")).to_have_count(4, timeout=TIMEOUT)
        found = list(troubles(page, "the language model"))
    assert not found, "\n".join(found)


def walk(page: Page, server: str) -> Iterator[str]:
    """What is wrong in each state of each page."""
    visit(page, server)
    close_sidebar(page)
    yield from troubles(page, "Live, ready")
    train_slowly(page)
    wait_for_step(page, 60)
    halt(page)
    yield from troubles(page, "Live, collapsing")
    for name in ("Share", "Export"):
        open_sidebar(page)
        if name == "Share":
            yield from troubles(page, "Live, sidebar")
        press(page, name)
        expect(page.get_by_role("dialog")).to_be_visible(timeout=TIMEOUT)
        yield from troubles(page, name)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden(timeout=TIMEOUT)
    for name in list(SIGNS)[1:]:
        turn_to(page, name)
        if name == "Glossary":
            page.locator("[data-testid=stExpander] summary").first.click()
        yield from troubles(page, name)
        if name == "Learn":
            number, lesson = next((n, one) for n, one in enumerate(COURSE, 1) if isinstance(one, ComparisonLesson))
            press(page, f"{number}. {lesson.title}")
            expect(page.get_by_text("Predict first")).to_be_visible(timeout=TIMEOUT)
            yield from troubles(page, "Learn, predictions")
            number, lesson = next((n, one) for n, one in enumerate(COURSE, 1) if isinstance(one, TraceLesson))
            press(page, f"{number}. {lesson.title}")
            expect(page.locator(".st-key-trace-left-router .main-svg").first).to_be_visible(timeout=TIMEOUT)
            yield from troubles(page, "Learn, traces")
        if name == "Quiz":
            page.locator("[class*=st-key-quiz-open] button").first.click()
            expect(page.get_by_role("button", name="Next question", exact=True)).to_be_visible(timeout=TIMEOUT)
            yield from troubles(page, "Quiz, answered")


def test_the_links_to_all_pages_are_a_landmark_that_says_which_page_is_open(page: Page, server: str) -> None:
    visit(page, server)
    for name in ("Live", "Glossary"):
        turn_to(page, name)
        landmark = page.get_by_role("navigation", name="App pages", exact=True)
        expect(landmark.get_by_role("link")).to_have_text(list(SIGNS))
        expect(landmark.locator("[aria-current=page]")).to_have_text(name)
    visit(page, f"{server}?hide=pages")
    expect(page.get_by_role("navigation")).to_have_count(0)
