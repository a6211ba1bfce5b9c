"""Errors become a sentence on the page, and every size and theme fits."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from moe_sim import PRESETS
from moe_sim.config.presets import FAMILY, MECHANISM, SCENARIO
from moe_sim.config.versions import VERSION
from tests.browser.conftest import Scheme, new_page
from tests.browser.driver import (
    TABS,
    TIMEOUT,
    expect_step,
    go_to_panel,
    halt,
    move,
    press,
    set_speed,
    slider,
    state,
    step_shown,
    visit,
    wait_for_step,
)


def test_a_diverging_run_ends_with_a_sentence_and_keeps_the_last_charts(page: Page, server: str) -> None:
    visit(page, f"{server}?learning_rate=1000")
    press(page, "Train")
    expect(state(page)).to_have_text("Diverged", timeout=TIMEOUT)
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_disabled()
    assert "NaN" not in page.locator(".ecl").inner_text()
    press(page, "Reset")
    expect(state(page)).to_have_text("Ready", timeout=TIMEOUT)


@pytest.mark.parametrize(
    "query",
    [
        "num_experts=4&top_k=8",
        "aux_loss_coef=nan&num_experts=abc&capacity_factor=-1",
        "task=%3Cscript%3Ealert(1)%3C/script%3E&seed=99999999999999999999",
        "events=1:task=text;x;9999999:aux_loss_coef=1",
        "v=&aux_loss_coef=&&&=&top_k=%00",
    ],
)
def test_a_bad_link_gets_a_sentence_and_a_working_page(page: Page, server: str, query: str) -> None:
    page.on("dialog", lambda dialog: pytest.fail("a link must not open a dialog"))
    visit(page, f"{server}?{query}")
    expect(page.get_by_test_id("stAlert").first).to_be_visible()
    assert "Traceback" not in page.locator("body").inner_text()
    press(page, "Step")
    expect_step(page, 1)


def test_without_the_stream_the_page_updates_through_the_component_and_says_so(context, server: str) -> None:
    page = context.new_page()
    page.route("**/live/**", lambda route: route.abort())
    visit(page, server)
    expect(page.locator(".ecl .notice")).to_contain_text("Live stream not reachable")
    press(page, "Train")
    wait_for_step(page, 90)
    halt(page)


def test_a_planned_change_reaches_the_sidebar(page: Page, server: str) -> None:
    visit(page, f"{server}?events=40:aux_loss_coef=0.1")
    press(page, "Train")
    wait_for_step(page, 45)
    expect(page.get_by_text("α 0 → 0.1").first).to_be_attached(timeout=TIMEOUT)
    expect(page.locator("[class*=st-key-live-aux_loss_coef]").get_by_text("0.1", exact=True)).to_be_visible(
        timeout=TIMEOUT
    )
    assert step_shown(page) >= 45
    assert "events=40%3Aaux_loss_coef%3D0.1" in page.url


def test_a_quickly_moved_slider_loses_nothing(page: Page, server: str) -> None:
    visit(page, server)
    press(page, "Train")
    wait_for_step(page, 60)
    move(page, "Load-balancing coefficient α", 9)
    page.wait_for_function("decodeURIComponent(location.search).includes(':aux_loss_coef=0.1')", timeout=TIMEOUT)
    assert step_shown(page) >= 60
    assert page.locator(".ecl .tile").count() == 6


@pytest.mark.parametrize("kind", [SCENARIO, MECHANISM, FAMILY])
def test_every_preset_trains(page: Page, server: str, kind: str) -> None:
    visit(page, server)
    page.get_by_text("More scenarios", exact=True).click()
    for name, preset in PRESETS.items():
        if preset.kind != kind:
            continue
        press(page, preset.label)
        expect_step(page, 0)
        if name == "text":
            expect(page.locator(".ecl .passages").first).to_be_visible(timeout=TIMEOUT)
        press(page, "Train")
        wait_for_step(page, 30)
        expect(state(page)).not_to_have_text("Ready")
        halt(page)


def test_every_tab_opens_by_keyboard_and_draws_its_charts(page: Page, server: str) -> None:
    visit(page, f"{server}?task=text&capacity_factor=1")
    press(page, "Train")
    wait_for_step(page, 30)
    page.get_by_role("tab", name="Why f and P").focus()
    for name in (*TABS[1:], "Text"):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
        panel = go_to_panel(page, name)
        if name == "Text":
            expect(panel.locator(".passage span[style*=background]").first).to_be_visible()
        elif name == "Other names":
            expect(panel.locator(".card table").first).to_be_visible()
        else:
            expect(panel.locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("width", "height", "schemes"),
    [(1280, 720, ("light", "dark")), (1920, 1080, ("dark", "light")), (390, 844, ("dark", "light"))],
)
def test_nothing_is_cut_off_at_any_width(
    home: BrowserContext, server: str, shots: Path, width: int, height: int, schemes: tuple[Scheme, Scheme]
) -> None:
    with new_page(home, server, width, height, schemes[0]) as page:
        visit(page, f"{server}?aux_loss_coef=0.01&capacity_factor=1.25&num_experts=12")
        press(page, "Train")
        wait_for_step(page, 60)
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            expect(page.locator(f".ecl[data-theme={scheme}]")).to_be_visible()
            background = "rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 26)"
            expect(page.locator(".stApp")).to_have_css("background-color", background)
            expect(page.get_by_role("region", name="Expert utilization").locator(".main-svg").first).to_be_visible()
            page.screenshot(path=shots / f"{width}-{scheme}.png")
            too_wide = page.evaluate(
                "() => [...document.querySelectorAll('.ecl *')]"
                ".filter(node => node.getBoundingClientRect().right > innerWidth + 1)"
                ".filter(node => !node.closest('svg, .passages, .announcer, .card')).map(node => node.className)"
            )
            assert not too_wide, scheme


def test_the_dashboard_follows_the_theme_chosen_in_the_menu(page: Page, server: str) -> None:
    visit(page, server)
    press(page, "Train")
    wait_for_step(page, 30)
    page.get_by_test_id("stMainMenu").get_by_role("button").click()
    page.get_by_role("menuitemradio", name="Dark").click()
    expect(page.locator(".ecl")).to_have_attribute("data-theme", "dark", timeout=TIMEOUT)
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.ecl h2')).color === 'rgb(236, 238, 240)'", timeout=TIMEOUT
    )
    assert step_shown(page) >= 30


def test_back_is_obeyed_at_once(page: Page, server: str) -> None:
    visit(page, f"{server}?num_experts=4")
    page.wait_for_url(re.compile(f"v={VERSION}.*num_experts=4"))
    move(page, "Experts", 1)
    page.wait_for_url(re.compile("num_experts=5"))
    page.go_back()
    # While the page redraws, the old slider may stand beside the new one.
    expect(slider(page, "Experts").first).to_have_value("4")
    page.wait_for_url(re.compile("num_experts=4"))


def test_the_end_of_the_step_budget_says_so_and_offers_more(page: Page, server: str) -> None:
    visit(page, f"{server}?num_experts=2&batch_tokens=32&expert_hidden_size=8")
    set_speed(page, "as fast as possible")
    press(page, "Train")
    expect(page.locator(".ecl .finished")).to_have_text("2,000 steps done.", timeout=TIMEOUT)
    expect(page.get_by_role("button", name="Step", exact=True)).to_be_disabled()
    press(page, "Train 1,000 more")
    wait_for_step(page, 2_010)
    expect(page.locator(".ecl .budget")).to_have_text("3,000")
    expect(page.locator(".ecl .finished")).to_be_empty()
    described = page.locator("[role=region][aria-label='Expert utilization'] .unseen")
    expect(described.locator("p")).to_contain_text("Expert utilization at step")
    assert described.locator("tr").count() == 3, "a head and two experts"


def test_a_chart_that_left_the_window_and_came_back_while_the_page_was_busy_is_drawn(page: Page, server: str) -> None:
    # What the browser reports late, it reports together, the newest last.
    page.add_init_script("""
      const Usual = IntersectionObserver;
      window.IntersectionObserver = class extends Usual {
        constructor(report) {
          super((entries, observer) => report([{ isIntersecting: false }, ...entries], observer));
        }
      };
    """)
    visit(page, server)
