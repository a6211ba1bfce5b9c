"""Runs with several layers, and the language model, in a real browser."""

from __future__ import annotations

import re

import numpy as np
from playwright.sync_api import Page, expect

from moe_sim import RunConfig, Trainer
from tests.browser.driver import TIMEOUT, open_tab, pause, press, region, set_speed, visit, wait_for_step
from tests.tasks.test_language import TALE

DEEP = "?v=3&num_layers=3&seed=11"
MODEL = "?v=3&task=language&num_layers=2&top_k=2&num_experts=4&batch_tokens=64&warmup_steps=20"


def bars(page: Page) -> list[float]:
    graph = region(page, "Expert utilization").locator(".graph")
    shown: list[float] = graph.evaluate("graph => graph.data[0].y")
    return shown


def table_of_layers(page: Page) -> list[list[float]]:
    graph = region(page, "Experts by layer").locator(".graph")
    shown: list[list[float]] = graph.evaluate("graph => graph.data[0].z")
    return shown


def test_each_layer_collapses_by_itself_and_can_be_looked_at(page: Page, server: str) -> None:
    visit(page, server + DEEP)
    set_speed(page, "60")
    press(page, "Train")
    wait_for_step(page, 130)
    steps = pause(page)
    load = Trainer(RunConfig(num_layers=3, seed=11)).run(steps).last("smoothed_load")
    region(page, "Experts by layer").scroll_into_view_if_needed()
    expect(region(page, "Experts by layer").locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
    np.testing.assert_allclose(table_of_layers(page), 100 * load, atol=0.03)
    worst = int(load.max(1).argmax()) + 1
    expect(page.locator(".ecl .state .evidence")).to_contain_text(re.compile(rf"Layer {worst}: expert \d takes"))
    np.testing.assert_allclose(bars(page), 100 * load.mean(0), atol=0.03)
    expect(region(page, "Expert utilization").locator("small")).to_contain_text("mean of 3 layers")
    for layer in (2, 1):
        page.get_by_label("Layer", exact=True).select_option(str(layer))
        expect(region(page, "Expert utilization").locator("small")).to_contain_text(f"layer {layer}", timeout=TIMEOUT)
        expect(region(page, "Routing map").locator("small")).to_contain_text(f"layer {layer}", timeout=TIMEOUT)
        np.testing.assert_allclose(bars(page), 100 * load[layer - 1], atol=0.03)
    page.wait_for_url(re.compile("layer=1"))
    lines = region(page, "Imbalance ratio").locator(".graph").evaluate("graph => graph.data.map(({ name }) => name)")
    assert lines == ["layer 1", "layer 2", "layer 3"]


def test_the_slider_goes_back_in_time_and_a_link_opens_the_layer(page: Page, server: str) -> None:
    visit(page, server + DEEP + "&layer=3")
    press(page, "Train")
    wait_for_step(page, 60)
    pause(page)
    assert page.get_by_label("Layer", exact=True).input_value() == "3"
    slider = page.get_by_label("Step of Experts by layer")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".scrubber output")).to_have_text("10", timeout=TIMEOUT)
    load = Trainer(RunConfig(num_layers=3, seed=11)).run(10).last("smoothed_load")
    page.wait_for_function(
        "first => { const { data } = document.querySelector('[aria-label=\"Experts by layer\"] .graph');"
        " return Math.abs(data[0].z[0][0] - first) < 0.03 }",
        arg=100 * load[0, 0], timeout=TIMEOUT,
    )  # fmt: skip
    np.testing.assert_allclose(table_of_layers(page), 100 * load, atol=0.03)
    page.keyboard.press("End")
    expect(page.locator(".scrubber output")).to_have_text("now", timeout=TIMEOUT)


def test_one_layer_has_no_picker_and_no_chart_of_layers(page: Page, server: str) -> None:
    visit(page, server)
    expect(page.get_by_label("Layer", exact=True)).to_be_hidden()
    expect(region(page, "Experts by layer")).to_have_count(0)


def test_the_language_model_continues_a_text_layer_by_layer(page: Page, server: str) -> None:
    visit(page, server + MODEL)
    press(page, "Train")
    wait_for_step(page, 40)
    panel = open_tab(page, "Prompt")
    panel.get_by_role("textbox", name="Prompt").fill("for i in ")
    press(page, "Continue")
    expect(panel.locator(".answer .passage")).to_have_count(2, timeout=TIMEOUT)
    expect(panel.locator(".answer .passage p").first).to_contain_text("for i in ")
    titles = (
        panel.locator(".answer .passage p").first.locator("span").evaluate_all("all => all.map(({ title }) => title)")
    )
    assert set(titles) <= {f"expert {expert}" for expert in range(1, 5)}
    assert len(titles) == 89
    panel.get_by_label("Expert switched off").select_option("2-1")
    press(page, "Continue")
    expect(panel.locator(".losses tr")).to_have_count(4, timeout=TIMEOUT)


def test_the_model_learns_a_text_of_the_visitors_own(page: Page, server: str) -> None:
    visit(page, server + MODEL)
    page.get_by_text("Task and data", exact=True).click()
    field = page.get_by_label("Text of your own", exact=True)
    field.fill("too short")
    field.press("Control+Enter")
    press(page, "Train on this text")
    expect(page.get_by_text("The text needs at least 6,000 characters")).to_be_visible(timeout=TIMEOUT)
    field.fill(TALE)
    field.press("Control+Enter")
    press(page, "Train on this text")
    page.wait_for_url(re.compile("own_text=[0-9a-f]{12}"))
    expect(region(page, "Routing map")).to_contain_text("1st quarter", timeout=TIMEOUT)
    press(page, "Train")
    wait_for_step(page, 20)
    link = page.url
    press(page, "Back to the text of the task")
    page.wait_for_url(re.compile("^(?!.*own_text)"))
    other = page.context.browser.new_page() if page.context.browser else page
    visit(other, re.sub("own_text=[0-9a-f]{12}", "own_text=0123456789ab", link))
    expect(other.get_by_text("not stored anywhere")).to_be_visible(timeout=TIMEOUT)
    other.close()
