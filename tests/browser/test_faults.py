"""Faults around the page: its server dies, its stream is cut or blocked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from moe_sim import RunConfig, Trainer
from moe_sim.cli.run import scene_of
from tests.bench.load import WARM
from tests.bench.load_clients import Visitor
from tests.browser.driver import (
    TIMEOUT,
    drawn_as_computed,
    halt,
    move,
    pause,
    press,
    region,
    set_speed,
    slider,
    step_shown,
    trace,
    visit,
    wait_for_points,
    wait_for_step,
)
from tests.support.asynchronous import run_to_end
from tests.support.proxy import Fate, Proxy, standing_before
from tests.support.serving import free_port, launch, wait_until_healthy, workers_of

OVER_TIME = ("Imbalance ratio", "Task and load-balancing loss", "Utilization over time")
NOTE_STEPS = """() => {
  const board = document.querySelector('.ecl');
  window.noted = [];
  const note = () => noted.push(Number(board.dataset.step));
  new MutationObserver(note).observe(board, { attributeFilter: ['data-step'] });
}"""


def drawn(page: Page, charts: tuple[str, ...], steps: int) -> dict[str, list[list[float | None]]]:
    """Each line of charts over time, which show every step up to 400, as far as step `steps`."""
    page.bring_to_front()
    for chart in charts:
        wait_for_points(page, chart, step_shown(page))
    lines = page.evaluate(
        "charts => charts.map(chart => document.querySelector(`[aria-label='${chart}'] .graph`).data"
        ".map(({ x, y }) => [...(x ?? [])].map((step, i) => [step, y[i]])))",
        charts,
    )
    return {
        chart: [[value for step, value in line if step <= steps] for line in data]
        for chart, data in zip(charts, lines, strict=True)
    }


def never_went_back(page: Page, step: int) -> bool:
    """Whether every step shown since `NOTE_STEPS` ran is `step` or later."""
    return min(page.evaluate("noted")) >= step


def test_after_a_server_restart_the_run_continues_from_the_same_step_with_the_same_numbers(
    context: BrowserContext, tmp_path: Path
) -> None:
    page, pair, port = context.new_page(), context.new_page(), free_port()
    with launch(tmp_path / "first.txt", port=port) as (address, server):
        wait_until_healthy(address, server)
        pair.goto(f"{address}/compare?seed=3&b=0:aux_loss_coef=0.1")
        expect(region(pair, "A: Expert utilization").locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
        press(pair, "Train")
        wait_for_step(pair, 20)
        pair_steps = pause(pair)
        pair_before = drawn(pair, ("Task loss",), pair_steps)

        visit(page, f"{address}?seed=3&num_topics=6")
        set_speed(page, "15 steps/s")
        press(page, "Train")
        wait_for_step(page, 20)
        move(page, "Load-balancing coefficient α", 9)
        page.wait_for_function("decodeURIComponent(location.search).includes(':aux_loss_coef=0.1')", timeout=TIMEOUT)
        wait_for_step(page, step_shown(page) + 30)
        steps = pause(page)
        before = drawn(page, OVER_TIME, steps)
        press(page, "Train")
        wait_for_step(page, steps + 10)
        for one in (page, pair):
            one.evaluate(NOTE_STEPS)
        server.kill()
        server.wait()
        last = step_shown(page)
        press(pair, "Step")
    with launch(tmp_path / "second.txt", port=port) as (address, server):
        wait_until_healthy(address, server)
        wait_for_step(page, last + 10)
        pause(page)
        assert never_went_back(page, steps)
        assert drawn(page, OVER_TIME, steps) == before
        expect(slider(page, "Load-balancing coefficient α")).to_have_attribute("aria-valuetext", "0.1")
        expect(page.get_by_label("Speed in steps per second")).to_have_value("15")

        wait_for_step(pair, pair_steps + 1)  # requested while the server was down
        assert never_went_back(pair, pair_steps)
        assert drawn(pair, ("Task loss",), pair_steps) == pair_before
        context.close()
    assert "Traceback" not in (tmp_path / "second.txt").read_text(encoding="utf-8")


def test_a_page_whose_worker_process_is_killed_says_that_the_run_is_computed_again(
    context: BrowserContext, tmp_path: Path
) -> None:
    with launch(tmp_path / "log.txt") as (address, server):
        wait_until_healthy(address, server)
        run_to_end(lambda: Visitor("autoplay=1&seed=1").visit(address, WARM, 2 * WARM))
        page = context.new_page()
        visit(page, f"{address}?seed=3")
        press(page, "Train")
        wait_for_step(page, 200)
        for worker in workers_of(server.pid):
            worker.kill()
        notice = page.locator(".ecl .notice")
        expect(notice).to_contain_text("A worker process of the server was lost. The run is being computed again: step")
        expect(notice).to_be_hidden(timeout=TIMEOUT)
        wait_for_step(page, step_shown(page) + 20)
        context.close()


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with standing_before(int(urlsplit(server).port or 0)) as proxy:
        yield proxy


def test_a_stream_that_is_cut_twenty_times_loses_and_repeats_no_step(context: BrowserContext, proxy: Proxy) -> None:
    page = context.new_page()
    visit(page, f"http://127.0.0.1:{proxy.port}?seed=5")
    notice = page.locator(".ecl .notice")
    set_speed(page, "5 steps/s")
    press(page, "Train")
    wait_for_step(page, 5)
    for _ in range(19):
        proxy.cut(0.2)
    expect(notice).to_be_hidden()
    proxy.cut(5)
    expect(notice).to_be_hidden(timeout=TIMEOUT)  # updated through the component, then by the stream again
    steps = pause(page)
    for chart in OVER_TIME:
        wait_for_points(page, chart, steps)
        assert trace(page, chart)["x"] == list(range(1, steps + 1))
    trainer = Trainer(RunConfig(seed=5))
    trainer.run(steps)
    drawn_as_computed(page, scene_of(trainer), "imbalance", "task_and_balance_loss", "utilization_over_time")


@pytest.mark.parametrize("fate", ["kept waiting", "bad gateway"])
def test_a_blocked_stream_is_replaced_by_the_component_until_it_works_again(
    context: BrowserContext, proxy: Proxy, fate: Fate
) -> None:
    page = context.new_page()
    proxy.fate = fate
    visit(page, f"http://127.0.0.1:{proxy.port}")
    page.evaluate("window.board = document.querySelector('.ecl')")
    notice = page.locator(".ecl .notice")
    expect(notice).to_contain_text("Live stream not reachable", timeout=8_000)
    press(page, "Train")
    wait_for_step(page, 30)
    proxy.fate = "passed on"
    expect(notice).to_be_hidden(timeout=20_000)
    wait_for_step(page, step_shown(page) + 30)
    assert page.evaluate("board === document.querySelector('.ecl')"), "the board was remounted"


RUN_AFTER_RUN = """
import time
from streamlit.runtime import runtime
from streamlit.web import cli
from pages.dashboard import mounting
from pages.visitor.feed import Feed
runtime.MESSAGE_FLUSH_INTERVAL_SECS = 0.05
mounting.FALLBACK_INTERVAL, usual = 0.05, Feed.next
Feed.next = lambda *args: time.sleep(0.4) or usual(*args)
cli.main()
"""
"""A server so slow that, without the stream, the next update is always due when one ends."""


def test_a_slow_server_without_the_stream_never_removes_the_board(context: BrowserContext, tmp_path: Path) -> None:
    with launch(tmp_path / "log.txt", starter=("-c", RUN_AFTER_RUN)) as (address, server):
        wait_until_healthy(address, server)
        with standing_before(int(urlsplit(address).port or 0)) as proxy:
            page = context.new_page()
            proxy.fate = "bad gateway"
            visit(page, f"http://127.0.0.1:{proxy.port}")
            page.evaluate(
                "window.board = document.querySelector('.ecl'); window.removed = 0;"
                "new MutationObserver(() => { removed += !board.isConnected; })"
                ".observe(document.body, { childList: true, subtree: true });"
            )
            expect(page.locator(".ecl .notice")).to_contain_text("Live stream not reachable", timeout=TIMEOUT)
            for step in range(10, 40, 10):  # each command reruns the whole script, directly followed by the update
                press(page, "Train")
                page.wait_for_function(f"Number(board.dataset.step) >= {step}", timeout=TIMEOUT)
                halt(page)
            assert page.evaluate("removed") == 0
            context.close()
