"""A vocabulary of what a visitor does and sees."""

from __future__ import annotations

import math
from typing import Any

from playwright.sync_api import Locator, Page, expect

from moe_sim.charts.page import page_figures
from moe_sim.charts.scene import Scene

TIMEOUT = 60_000
"""Timeout in milliseconds."""
STILL = 2_500
"""Milliseconds without a new step after which a paused run counts as settled; a loaded machine shows steps late."""
CHARTS = (
    "Expert utilization",
    "Imbalance ratio",
    "Task and load-balancing loss",
    "Utilization over time",
    "Routing map",
)
TABS = (
    "Why f and P", "Mechanism", "Specialization", "Feedback loop", "Router", "Capacity", "Devices", "Variance",
    "Co-activation", "Inference", "Other names",
)  # fmt: skip
"""The second row of views; the text task has one more, Text."""


def visit(page: Page, address: str) -> None:
    """Open a link and wait until the charts are drawn."""
    page.goto(address)
    expect(page.get_by_role("region", name="Expert utilization").locator(".main-svg").first).to_be_visible(
        timeout=TIMEOUT
    )


def press(page: Page, name: str) -> None:
    """Press a button by its accessible name."""
    page.get_by_role("button", name=name, exact=True).click()


def train_slowly(page: Page) -> None:
    """Train at half speed. Charts show every step only up to 400, and a loaded machine pauses late."""
    set_speed(page, "30")
    press(page, "Train")


def set_speed(page: Page, speed: str) -> None:
    """Choose a speed. A compact board has it behind a button."""
    unfold = page.get_by_role("button", name="More controls")
    if unfold.is_visible() and unfold.get_attribute("aria-expanded") == "false":
        unfold.click()
    page.get_by_label("Speed in steps per second").select_option(speed)


def wait_for_step(page: Page, step: int, timeout: float = 5 * TIMEOUT) -> None:
    """Wait until the dashboard shows that step or a later one."""
    page.wait_for_function(f"Number(document.querySelector('.ecl')?.dataset.step) >= {step}", timeout=timeout)


def expect_step(page: Page, step: int) -> None:
    """Wait until the dashboard shows exactly that step."""
    expect(page.locator(".ecl")).to_have_attribute("data-step", str(step), timeout=TIMEOUT)


def wait_for_points(page: Page, chart: str, last: int) -> None:
    """Wait until a chart over time, which is drawn less often than the bars, shows all steps up to that one."""
    page.wait_for_function(
        f"document.querySelector('[aria-label=\"{chart}\"] .graph')?.data?.[0]?.x.at(-1) === {last}", timeout=TIMEOUT
    )


def step_shown(page: Page) -> int:
    """The step that the dashboard shows."""
    return int(page.locator(".ecl").get_attribute("data-step") or 0)


def halt(page: Page) -> None:
    """Pause a training run; its last step may still be in flight."""
    press(page, "Pause")
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_visible(timeout=TIMEOUT)


def pause(page: Page) -> int:
    """Pause a training run and wait until the page shows its last step. Returns that step."""
    halt(page)
    page.wait_for_function(
        "still => { const step = document.querySelector('.ecl')?.dataset.step, seen = window.seen ??= {};"
        " if (seen.step !== step) Object.assign(seen, { step, since: performance.now() });"
        " return performance.now() - seen.since > still }",
        arg=STILL,
        timeout=TIMEOUT,
    )
    return step_shown(page)


def region(page: Page, chart: str) -> Locator:
    """A chart by its title."""
    return page.locator(f'[role=region][aria-label="{chart}"]')


def open_tab(page: Page, name: str) -> Locator:
    """Open a tab of the second row of views and scroll to it. Returns its panel."""
    page.get_by_role("tab", name=name, exact=True).click()
    return go_to_panel(page, name)


def go_to_panel(page: Page, name: str) -> Locator:
    """Scroll to the panel of an open tab once the figures of its charts have come. Returns it."""
    panel = page.get_by_role("tabpanel", name=name, exact=True)
    expect(panel.locator(".lesson p").first).to_be_visible(timeout=TIMEOUT)
    expect(panel.locator(".plot:not([aria-label])")).to_have_count(0, timeout=TIMEOUT)
    panel.scroll_into_view_if_needed()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return panel


def choose(page: Page, name: str, option: str) -> None:
    """Pick an option of a sidebar select box."""
    page.get_by_test_id("stSelectbox").filter(has_text=name).get_by_role("combobox").click()
    page.get_by_role("option", name=option, exact=True).click()


def slider(page: Page, name: str) -> Locator:
    """A sidebar slider by its label, which Streamlit repeats in the accessible name."""
    return page.get_by_role("slider", name=f"{name} {name}", exact=True)


def move(page: Page, name: str, steps: int) -> None:
    """Move a slider by that many stops with the keyboard."""
    slider(page, name).focus()
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")


def zoom_into(page: Page, graph: Locator) -> None:
    """Drag a rectangle over the middle of a chart."""
    box = graph.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.7 * box["height"], steps=5)
    page.mouse.up()


def tile(page: Page, name: str) -> str:
    """The text of a KPI tile."""
    return page.locator(f"[data-tile={name}]").inner_text()


def state(page: Page) -> Locator:
    """The state in the status line."""
    return page.locator(".ecl .state .word")


def trace(page: Page, chart: str, index: int = 0) -> dict[str, Any]:
    """A trace of a chart as Plotly draws it: x, y, z, text and marker."""
    graph = page.get_by_role("region", name=chart, exact=True).locator(".graph")
    return graph.evaluate(
        "(graph, i) => { const {x, y, z, text, marker} = graph.data[i];"
        " return JSON.parse(JSON.stringify({x, y, z, text, marker})) }",
        index,
    )


def drawn_as_computed(page: Page, scene: Scene, *names: str) -> None:
    """Assert that charts over time equal the Python figures of a scene, up to the rounding of the stream."""
    figures = page_figures(scene, "light")
    for name in names:
        for index, expected in enumerate(figures[name].data):
            drawn = trace(page, figures[name].layout.title.text, index)
            assert drawn["x"] == list(expected.x), name
            for one, other in zip(drawn["y"], expected.y, strict=True):
                if other is None or math.isnan(other):
                    continue
                assert abs(one - other) <= 0.006 * abs(other) + 0.03, (name, index, one, other)


def marks(page: Page, chart: str) -> list[str]:
    """The annotations of a chart, including the markers of changed knobs."""
    graph = region(page, chart).locator(".graph")
    return graph.evaluate("graph => (graph.layout?.annotations ?? []).map(({ text }) => text)")


def tab_to(page: Page, selector: str, most: int = 150) -> Locator:
    """Press Tab until an element that matches has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return page.locator(":focus")
    raise AssertionError(f"{selector} cannot be reached with Tab")
