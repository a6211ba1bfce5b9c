"""Mechanisms, freezing, thresholds and the second row of views, in a real browser."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from moe_sim import RunConfig, Trainer
from moe_sim.charts.page import page_figures
from moe_sim.cli.run import scene_of
from moe_sim.history.series import recent_mean
from moe_sim.router.balancing import METHODS
from moe_sim.teaching.other_names import METRICS
from tests.browser.conftest import new_page
from tests.browser.driver import (
    TABS,
    TIMEOUT,
    choose,
    open_tab,
    pause,
    press,
    region,
    slider,
    state,
    step_shown,
    tile,
    trace,
    train_slowly,
    visit,
    wait_for_step,
)

TOLERANCE = {
    "expert": (0.006, 0.02), "coarse": (0.06, 0), "signal": (0.006, 1e-9), "now": (0, 0.026), "choices": (0, 0.026),
    "devices": (0, 0.0026), "plain": (0.006, 1e-9), "limit": (1e-9, 0), "joint": (0, 0.85), "together": (0, 0.85),
}  # fmt: skip
"""Largest relative and absolute rounding errors of messages (the latter in percent), by kind of binding."""
DRAWN = 10
"""Seconds within which every chart in sight is drawn."""


def labels(page: Page, chart: str) -> list[str]:
    """The annotations of a chart, including the markers of changed knobs."""
    graph = region(page, chart).locator(".graph")
    return graph.evaluate("graph => (graph.layout?.annotations ?? []).map(({ text }) => text)")


def cells(panel: Locator, number: int = 0) -> list[list[str]]:
    """The rows of a table, without its header."""
    rows = panel.locator(".card table").nth(number).locator("tr")
    return [row.locator("td").all_inner_texts() for row in rows.all()[1:]]


def test_another_mechanism_acts_on_the_current_run_is_explained_and_leaves_a_marker(page: Page, server: str) -> None:
    visit(page, server)
    press(page, "Train")
    panel = open_tab(page, "Mechanism")
    expect(panel.locator(".lesson")).to_contain_text("Load-balancing loss (Switch). A loss", timeout=TIMEOUT)
    expect(panel.locator(".lesson")).to_contain_text("With α = 0 this loss has no effect")
    expect(region(page, "Selection bias")).to_be_hidden()
    wait_for_step(page, 60)
    changed_at = step_shown(page)
    choose(page, "Balancing mechanism", METHODS["bias"].label)
    expect(panel.locator(".lesson")).to_contain_text("Selection bias (no loss). No loss", timeout=TIMEOUT)
    page.wait_for_function("decodeURIComponent(location.search).includes('balancing=bias')", timeout=TIMEOUT)
    expect(slider(page, "Load-balancing coefficient α")).to_be_disabled()
    wait_for_step(page, changed_at + 60)
    assert "balancing load balancing → bias" in labels(page, "Imbalance ratio")
    expect(region(page, "Selection bias").locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
    page.wait_for_function("document.querySelector('[aria-label=\"Selection bias\"] .graph')?.data[0].y.some(Boolean)")


def test_a_frozen_run_continues_with_its_current_weights(page: Page, server: str) -> None:
    visit(page, server)
    press(page, "Train")
    open_tab(page, "Feedback loop")
    wait_for_step(page, 40)
    press(page, "Freeze")
    expect(page.get_by_role("button", name="Unfreeze", exact=True)).to_be_visible(timeout=TIMEOUT)
    expect(page.locator(".ecl .state .advice")).to_contain_text("Weights are frozen", timeout=TIMEOUT)
    frozen_at = step_shown(page)
    wait_for_step(page, frozen_at + 40)
    region(page, "Weight change").scroll_into_view_if_needed()
    # After the block in which it was frozen, no weight changes: a gap on the log axis, for every expert.
    still = "document.querySelector('[aria-label=\"Weight change\"] .graph').data.every(({ y }) => y.at(-1) === null)"
    page.wait_for_function(still, timeout=TIMEOUT)
    assert any(value for value in trace(page, "Weight change", busiest(page))["y"]), "the weights changed before"
    press(page, "Unfreeze")
    expect(page.get_by_role("button", name="Freeze", exact=True)).to_be_visible(timeout=TIMEOUT)
    region(page, "Weight change").scroll_into_view_if_needed()
    page.wait_for_function(f"!({still})", timeout=TIMEOUT)
    assert step_shown(page) > frozen_at + 40, "freezing must not restart the run"


def busiest(page: Page) -> int:
    """The expert with the tallest bar."""
    return int(np.argmax(trace(page, "Expert utilization")["y"]))


@pytest.mark.parametrize(
    "knobs",
    [{"top_k": 2, "capacity_factor": 1.0, "aux_loss_coef": 0.01}, {"balancing": "expert_choice"}],
    ids=["top-2 with a cap", "expert choice"],
)
def test_each_tab_draws_what_the_python_figures_show(page: Page, server: str, knobs: dict[str, Any]) -> None:
    # A seed of its own: a run that another test has trained further has no routing at the very step of a pause.
    knobs = {**knobs, "seed": 4711}
    visit(page, f"{server}?{'&'.join(f'{name}={value}' for name, value in knobs.items())}")
    train_slowly(page)
    wait_for_step(page, 60)
    steps = pause(page)
    trainer = Trainer(RunConfig(**knobs))
    trainer.run(steps)
    figures = {figure.layout.title.text: figure for figure in page_figures(scene_of(trainer), "light").values()}
    for name in TABS:
        panel = open_tab(page, name)
        expect(panel.locator(".lesson p").first).to_be_visible()
        charts = panel.get_by_role("region").all()
        assert charts or name == "Other names"
        for chart in charts:
            chart.scroll_into_view_if_needed()
            expect(chart.locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
            title = chart.get_attribute("aria-label") or ""
            for index, expected in enumerate(figures[title].data):
                drawn_as_expected(page, title, index, expected, f"{name}: {title} {index}")


def drawn_as_expected(page: Page, title: str, index: int, expected: Any, where: str) -> None:
    """Assert that a trace of a paused run comes to equal the Python figure's: a chart is redrawn some time after the
    last step has arrived."""
    deadline = time.monotonic() + DRAWN
    while True:
        try:
            return compare(trace(page, title, index), expected, where)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        page.wait_for_timeout(100)


def compare(drawn: dict[str, Any], expected: Any, where: str) -> None:
    """Assert that Plotly draws what the Python figure has, up to rounding, with the same gaps."""
    kind = expected.meta["kind"]
    relative, absolute = TOLERANCE[kind]
    direction = "z" if expected.type == "heatmap" else "x" if expected.orientation == "h" else "y"
    one, other = (np.array(values, dtype=float) for values in (drawn[direction], getattr(expected, direction)))
    if kind == "choices":  # the page shows only as many choices as there are
        other = other[: len(one)]
    if len(one) and kind in ("expert", "coarse", "signal"):
        assert drawn["x"] == list(expected.x), where
    np.testing.assert_allclose(one, other, rtol=relative, atol=absolute, err_msg=where)


def test_the_conventions_give_three_consistent_numbers_for_one_routing(page: Page, server: str) -> None:
    # Here the two differ by 0.076 or more from step 60 to 400, and by 0.13 in the first twenty of them.
    visit(page, f"{server}?top_k=2&seed=1&level=practitioner")
    train_slowly(page)
    wait_for_step(page, 60)
    steps = pause(page)
    trainer = Trainer(RunConfig(top_k=2, seed=1))
    history = trainer.run(steps)
    panel = open_tab(page, "Why f and P")
    rows = {row[0]: row for row in cells(panel)}
    assert list(rows) == ["per choice", "first choice", "huggingface"]
    number = {name: float(row[2].rpartition("= ")[2]) for name, row in rows.items()}
    columns = history.layer()
    load = recent_mean(columns, "load")
    # Means of 20 steps of the sum of the terms; shown with two decimals.
    each = {name: 8 * (columns.column(name) * columns.column("importance")).sum(1) for name in ("load", "first_load")}
    assert number["per choice"] == pytest.approx(each["load"][-20:].mean(), abs=0.0051)
    assert number["first choice"] == pytest.approx(each["first_load"][-20:].mean(), abs=0.0051)
    assert number["huggingface"] == pytest.approx(2 * each["load"][-20:].mean(), abs=0.0051)
    assert number["first choice"] != number["per choice"]
    assert [rows[name][3] for name in rows] == ["1", "1", "2"]

    names = open_tab(page, "Other names")
    shown = {row[0]: row[2] for row in cells(names)}
    assert list(shown) == [metric.name for metric in METRICS]
    for metric in METRICS:
        value = metric.compute(load)
        if np.isinf(value):
            assert shown[metric.name] == "∞"
        else:
            assert float(shown[metric.name]) == pytest.approx(value, rel=0.006), metric.name
    assert len(cells(names, 1)) >= 5


def open_thresholds(page: Page) -> None:
    page.get_by_text("Diagnosis thresholds", exact=True).click()


def to_end(page: Page, name: str, key: str) -> None:
    """Move a slider to its first (Home) or last (End) stop."""
    slider(page, name).focus()
    page.keyboard.press(key)


def test_changes_to_a_paused_run_show_at_once(page: Page, server: str) -> None:
    visit(page, server)
    press(page, "Train")
    wait_for_step(page, 60)
    steps = pause(page)
    expect(state(page)).to_have_text("Collapsed")
    open_thresholds(page)

    # 1/8 = 12.5 %: the band reaches to 25 % and, with four times the uniform share, to 50 %.
    graph = "document.querySelector('[aria-label=\"Expert utilization\"] .graph')"
    assert page.evaluate(f"{graph}.layout.shapes[0].y1") == 25
    to_end(page, "Healthy to a share of", "End")
    page.wait_for_function("location.search.includes('healthy_high=4')")
    page.wait_for_function(f"{graph}.layout.shapes[0].y1 === 50")

    assert tile(page, "dead") != "0 of 8"
    assert "dead" in page.evaluate(f"{graph}.layout.xaxis.ticktext.join()")
    to_end(page, "Collapsed above a token share of", "End")
    page.wait_for_function("location.search.includes('collapse_share=1')")
    to_end(page, "Dead below a share of", "Home")
    expect(page.locator("[data-tile=dead]")).to_have_text("0 of 8")
    expect(state(page)).to_have_text("Uneven")
    page.wait_for_function("location.search.includes('dead_share=0')")
    page.wait_for_function(f"!{graph}.layout.xaxis.ticktext.join().includes('dead')")

    page.get_by_text("Optimizer and size", exact=True).click()
    slider(page, "Learning rate").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".ecl")).to_have_attribute("data-events", "1")
    page.wait_for_function(
        "(document.querySelector('[aria-label=\"Imbalance ratio\"] .graph')?.layout.annotations ?? [])"
        ".some(({ text }) => text === 'learning rate 0.003 → 0.01')"
    )
    assert step_shown(page) == steps


def test_on_a_phone_no_tab_makes_the_page_scroll_sideways(home: BrowserContext, server: str) -> None:
    with new_page(home, server, 390, 844) as page:
        visit(page, f"{server}?top_k=2&capacity_factor=1&task=text")
        press(page, "Train")
        wait_for_step(page, 20)
        for name in (*TABS, "Text"):
            open_tab(page, name)
            too_wide = page.evaluate(
                "() => [document.documentElement, ...document.querySelectorAll('.stMain, .stMainBlockContainer, .ecl')]"
                ".filter(node => node.scrollWidth > innerWidth || node.scrollWidth > node.clientWidth + 1)"
                ".map(node => node.className || node.tagName)"
            )
            assert not too_wide, name
        # Tables are wider than a phone and scroll on their own.
        card = open_tab(page, "Other names").locator(".card")
        assert card.evaluate("node => node.scrollWidth > node.clientWidth && node.clientWidth <= innerWidth")


def test_the_text_of_every_tab_is_complete_before_the_first_step(page: Page, server: str) -> None:
    visit(page, f"{server}?balancing=bias&top_k=2&capacity_factor=1")
    for name in TABS:
        words = open_tab(page, name).inner_text()
        assert not re.search(r"undefined|NaN|null|Infinity", words), name
