"""The main story of the page in a real browser: collapse, rescue, and what must not happen on the way."""

import re
from math import isnan

import httpx
from playwright.sync_api import Page, expect

from tests.browser.driver import (
    CHARTS,
    TIMEOUT,
    expect_step,
    halt,
    marks,
    move,
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
    wait_for_points,
    wait_for_step,
    zoom_into,
)
from tests.support.serving import read_stream


def test_the_page_opens_ready_then_the_router_collapses_and_alpha_rescues_it(page: Page, server: str) -> None:
    visit(page, server)
    expect(state(page)).to_have_text("Ready")
    assert step_shown(page) == 0
    for name in ("Train", "Step", "Reset"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    for name in ("Load-balancing coefficient α", "Experts", "Top-k", "Capacity factor"):
        expect(slider(page, name)).to_be_visible()
    for name in CHARTS:
        expect(region(page, name)).to_be_attached()
    for name in ("Routing map", "Expert utilization"):
        box = page.get_by_role("region", name=name, exact=True).bounding_box()
        assert box
        assert box["y"] + box["height"] <= 720, "the first screen must hold the map and the bars"
    collapse_and_rescue(page)


def collapse_and_rescue(page: Page) -> None:
    """With the defaults the router collapses, and raising α rescues it."""
    press(page, "Train")
    expect(state(page)).to_have_text("Collapsed", timeout=TIMEOUT)
    wait_for_step(page, 200)
    assert max(trace(page, "Expert utilization")["y"]) > 50
    colours = trace(page, "Routing map")["marker"]["color"]
    assert max(colours.count(colour) for colour in set(colours)) > 0.5 * len(colours)
    assert tile(page, "imbalance") == "∞"

    move(page, "Load-balancing coefficient α", 9)  # 0 → 0.1
    # One marker, or several if the machine was too slow to merge nine key presses into one change.
    expect(page.get_by_text(re.compile(r"^α .+ → 0\.1$")).first).to_be_attached()
    expect(page).to_have_url(re.compile(r"aux_loss_coef(=|%3D)0\.1"))
    raised = step_shown(page)
    wait_for_step(page, raised + 250)
    assert max(trace(page, "Expert utilization")["y"]) <= 40
    assert len(set(trace(page, "Routing map")["marker"]["color"])) >= 6
    assert raised >= 200, "a live knob must not restart the run"


def test_charts_keep_their_elements_and_a_zoom_through_thirty_seconds_of_training(page: Page, server: str) -> None:
    visit(page, server)
    press(page, "Train")
    wait_for_step(page, 20)
    page.evaluate(
        "() => { window.kept = [...document.querySelectorAll('.ecl .graph, .ecl .main-svg')] }",
    )
    graph = page.get_by_role("region", name="Imbalance ratio").locator(".graph")
    zoom_into(page, graph)
    zoomed = graph.evaluate("graph => graph.layout.xaxis.range")
    started_at = step_shown(page)
    press(page, "Extend the budget by 1,000 steps")
    wait_for_step(page, started_at + 30 * 60)
    assert page.evaluate("() => window.kept.length >= 5 && window.kept.every(node => node.isConnected)")
    assert graph.evaluate("graph => graph.layout.xaxis.range") == zoomed
    assert zoomed[1] < started_at + 100, "the drag must have zoomed"


def test_pause_step_and_reset_do_what_they_say_and_reset_keeps_the_seed_and_ends_a_zoom(
    page: Page, server: str
) -> None:
    visit(page, f"{server}?seed=3")
    for step in (1, 2, 3):
        press(page, "Step")
        expect_step(page, step)
    wait_for_points(page, "Task and load-balancing loss", 3)
    first = trace(page, "Task and load-balancing loss")["y"]
    graph = page.get_by_role("region", name="Imbalance ratio").locator(".graph")
    wait_for_points(page, "Imbalance ratio", 3)
    zoom_into(page, graph)
    page.wait_for_function(
        "document.querySelector('[aria-label=\"Imbalance ratio\"] .graph')?.layout.xaxis.autorange === false"
    )
    press(page, "Reset")
    expect_step(page, 0)
    press(page, "Step")
    wait_for_points(page, "Imbalance ratio", 1)
    assert graph.evaluate("graph => graph.layout.xaxis.autorange") is True
    press(page, "Train")
    wait_for_step(page, 30)
    press(page, "Pause")
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_visible()
    assert trace(page, "Task and load-balancing loss")["y"][:3] == first
    assert "seed=3" in page.url


def test_a_structural_slider_restarts_the_run_and_keeps_training(page: Page, server: str) -> None:
    visit(page, server)
    press(page, "Train")
    wait_for_step(page, 60)
    move(page, "Experts", 1)
    page.wait_for_function("document.querySelector('[data-tile=dead]').textContent.endsWith('of 9')", timeout=TIMEOUT)
    wait_for_step(page, 10)
    assert len(trace(page, "Expert utilization")["y"]) == 9


def test_messages_join_without_a_gap_and_stay_below_two_kilobytes(page: Page, server: str) -> None:
    visit(page, server)
    with page.expect_request("**/live/*") as request:
        press(page, "Reset")
    stream = request.value.url.partition("?")[0]
    press(page, "Train")
    wait_for_step(page, 30)
    with httpx.stream("GET", stream, timeout=20) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        messages = read_stream(response)
        last, snapshot, _ = next(messages)
        assert snapshot["from"] == 0
        while last < 400:
            number, message, size = next(messages)
            assert message["from"] == last
            assert number == message["to"]
            # On a loaded machine a late message may carry more steps; the limit is for the usual number.
            if message["to"] - message["from"] <= 13:
                assert size <= 2_000
            last = number
    with httpx.stream("GET", stream, headers={"Last-Event-ID": "250"}, timeout=20) as response:
        assert next(read_stream(response))[1]["from"] == 250
    with httpx.stream("GET", f"{stream}?from=300", timeout=20) as response:
        assert next(read_stream(response))[1]["from"] == 300
    assert httpx.get(f"{server}/live/nobody").status_code == 404


def test_the_drawn_charts_equal_the_python_figures(page: Page, server: str) -> None:
    from moe_sim import RunConfig, Trainer
    from moe_sim.charts.page import page_figures
    from moe_sim.cli.run import scene_of

    visit(page, f"{server}?aux_loss_coef=0.01&capacity_factor=1")
    train_slowly(page)
    wait_for_step(page, 40)
    steps = pause(page)
    trainer = Trainer(RunConfig(aux_loss_coef=0.01, capacity_factor=1))
    for title in ("Imbalance ratio", "Task and load-balancing loss", "Utilization over time"):
        wait_for_points(page, title, steps)
    trainer.run(steps)
    figures = page_figures(scene_of(trainer), "light")
    for name in ("utilization", "imbalance", "task_and_balance_loss", "utilization_over_time", "routing_map"):
        title = figures[name].layout.title.text
        for index, expected in enumerate(figures[name].data):
            drawn = trace(page, title, index)
            if name == "routing_map":  # its positions never change; its colours are compared below
                continue
            assert len(drawn["y"]) == len(expected.y)
            for one, other in zip(drawn["y"], expected.y, strict=True):
                if other is not None and not isnan(other):
                    assert abs(one - other) <= 0.006 * abs(other) + 0.03
    dots = figures["routing_map"].data[0]
    assert trace(page, "Routing map")["marker"]["color"] == dots.marker.color.tolist()


def test_a_reload_finds_its_run_at_its_step_and_goes_on(page: Page, server: str) -> None:
    visit(page, f"{server}?seed=8")
    train_slowly(page)
    wait_for_step(page, 30)
    move(page, "Load-balancing coefficient α", 9)
    page.wait_for_function("decodeURIComponent(location.search).includes(':aux_loss_coef=0.1')", timeout=TIMEOUT)
    steps = pause(page)
    wait_for_points(page, "Task and load-balancing loss", steps)
    before = trace(page, "Task and load-balancing loss")["y"]
    labels = marks(page, "Task and load-balancing loss")
    page.reload()
    expect_step(page, steps)
    wait_for_points(page, "Task and load-balancing loss", steps)
    assert trace(page, "Task and load-balancing loss")["y"] == before
    assert marks(page, "Task and load-balancing loss") == labels
    expect(page.get_by_label("Speed in steps per second")).to_have_value("30")
    press(page, "Train")
    wait_for_step(page, steps + 5)
    page.reload()
    wait_for_step(page, steps + 10)
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    page.goto(page.url)  # opened anew, it is a link like any other
    expect(state(page)).to_have_text("Ready", timeout=TIMEOUT)


def test_the_verdict_offers_a_rescue_and_says_when_all_experts_are_back(page: Page, server: str) -> None:
    visit(page, server)
    rescue = page.get_by_role("button", name="Rescue", exact=True)
    expect(rescue).to_be_hidden()
    press(page, "Train")
    expect(state(page)).to_have_text("Collapsed", timeout=TIMEOUT)
    rescue.click()
    expect(slider(page, "Load-balancing coefficient α")).to_have_attribute("aria-valuetext", "0.1", timeout=TIMEOUT)
    expect(page.locator(".ecl .evidence")).to_contain_text("All 8 experts back after", timeout=TIMEOUT)
    expect(page.locator(".ecl .state")).to_have_attribute("data-level", "good", timeout=TIMEOUT)
    expect(rescue).to_be_hidden()

    press(page, "See both")
    for name in "AB":
        expect(region(page, f"{name}: Routing map").locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
    expect(page.locator("[data-run=A] .verdict")).to_contain_text("Collapsed", timeout=TIMEOUT)
    expect(page.locator("[data-run=B] .verdict")).to_contain_text("alanced", timeout=TIMEOUT)
    # An expert that has just come back may have none of the map's 400 tokens yet.
    page.wait_for_function(
        "label => new Set(document.querySelector(`[aria-label='${label}'] .graph`)?.data[0].marker.color).size === 8",
        arg="B: Routing map",
        timeout=TIMEOUT,
    )
    assert len(set(trace(page, "A: Routing map")["marker"]["color"])) < 8
    halt(page)
