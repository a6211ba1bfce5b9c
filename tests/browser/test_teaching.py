"""What lecturers and students do besides training: lessons, links, files, lectures, slides and embeds."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, FilePayload, Locator, Page, expect

from moe_sim import RunConfig, Trainer
from moe_sim.cli.run import scene_of
from moe_sim.history.to_json import FORMAT
from moe_sim.teaching.course.catalogue import COURSE, LESSONS
from tests.browser.conftest import new_page, new_visitor, watch_for_trouble
from tests.browser.driver import (
    TIMEOUT,
    drawn_as_computed,
    expect_step,
    marks,
    move,
    open_tab,
    pause,
    press,
    region,
    set_speed,
    slider,
    state,
    step_shown,
    tab_to,
    trace,
    train_slowly,
    visit,
    wait_for_points,
    wait_for_step,
)

ALPHA = "Load-balancing coefficient α"
LOSSES = "Task and load-balancing loss"
BEHIND = 5_000
"""Milliseconds that a viewer's page may be behind the lecturer's."""


@pytest.fixture
def other_page(chromium: Browser, server: str) -> Iterator[Page]:
    """Another visitor's page, with the checks of `page`."""
    context = new_visitor(chromium)
    page = context.new_page()
    troubles = watch_for_trouble(page, server)
    yield page
    context.close()
    assert not troubles


def dialog(page: Page, name: str) -> Locator:
    """Open Share or Export."""
    press(page, name)
    opened = page.get_by_role("dialog")
    expect(opened).to_be_visible(timeout=TIMEOUT)
    return opened


def link_in(opened: Locator, part: str) -> str:
    """The address, containing `part`, that a dialog offers for copying."""
    shown = opened.locator("code").filter(has_text=re.compile("^http")).filter(has_text=part).first
    expect(shown).to_be_visible(timeout=TIMEOUT)
    return shown.inner_text().strip()


def close(page: Page, opened: Locator) -> None:
    opened.get_by_role("button", name="Close", exact=True).focus()  # a download moves the focus
    page.keyboard.press("Escape")
    expect(opened).to_be_hidden(timeout=TIMEOUT)


def query_of(address: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(address).query)


def trained(page: Page, steps: int) -> int:
    """Train for at least `steps` steps, then pause. Returns the step."""
    train_slowly(page)
    wait_for_step(page, steps)
    stopped = pause(page)
    wait_for_points(page, LOSSES, stopped)
    return stopped


def test_a_lesson_is_started_trained_passed_and_followed_by_the_next_one(page: Page, server: str) -> None:
    first, second = LESSONS[:2]
    visit(page, server)
    page.get_by_role("navigation").get_by_role("link", name="Learn", exact=True).click()
    expect(page.get_by_role("heading", name=f"1. {first.title}", exact=True)).to_be_visible(timeout=TIMEOUT)
    press(page, "Start this lesson")
    expect(page.get_by_role("tab", name="Specialization", exact=True)).to_have_attribute("aria-selected", "true")
    criteria = page.locator("ul.reading").filter(has_text="One expert takes more than half")
    expect(criteria.locator("li[data-met=false]")).to_have_count(3)
    press(page, "Train")
    expect(page.get_by_text(f"Done: lesson “{first.title}” passed at step")).to_be_visible(timeout=TIMEOUT)
    expect(criteria.locator("li[data-met=true]")).to_have_count(3, timeout=TIMEOUT)
    expect(page.get_by_role("button", name=f"✓ 1. {first.title}", exact=True)).to_be_visible(timeout=TIMEOUT)
    assert step_shown(page) >= 200
    press(page, "Next lesson")
    expect(page.get_by_role("heading", name=f"2. {second.title}", exact=True)).to_be_visible(timeout=TIMEOUT)
    expect(page.get_by_text("Done: lesson")).to_be_hidden()
    expect(page.get_by_role("button", name=f"✓ 1. {first.title}", exact=True)).to_be_visible()


def test_a_link_with_planned_changes_starts_training_and_rescues_the_router_at_its_step(
    page: Page, server: str
) -> None:
    visit(page, f"{server}?aux_loss_coef=0&seed=3&events=60:aux_loss_coef=0.1&autoplay=1")
    wait_for_step(page, 150)
    set_speed(page, "15")  # charts draw every step up to 400
    expect(state(page)).not_to_have_text("Collapsed", timeout=TIMEOUT)
    steps = pause(page)
    wait_for_points(page, LOSSES, steps)
    assert "α 0 → 0.1" in marks(page, LOSSES)
    graph = region(page, LOSSES).locator(".graph")
    assert graph.evaluate("graph => graph.layout.shapes.filter(({ xref }) => xref === 'x').map(({ x0 }) => x0)") == [60]
    trainer = Trainer(RunConfig(aux_loss_coef=0, seed=3))
    trainer.run(60)
    trainer.update(aux_loss_coef=0.1)
    trainer.run(steps - 60)
    drawn_as_computed(page, scene_of(trainer), "task_and_balance_loss")
    expect(slider(page, ALPHA)).to_have_attribute("aria-valuetext", "0.1")


def test_a_shared_link_opens_the_run_with_its_changes_on_another_page(page: Page, server: str) -> None:
    visit(page, f"{server}?seed=5")
    trained(page, 30)
    move(page, ALPHA, 9)
    page.wait_for_function("decodeURIComponent(location.search).includes(':aux_loss_coef=0.1')", timeout=TIMEOUT)
    steps = trained(page, 60)
    opened = dialog(page, "Share")
    link = link_in(opened, "events=")
    (events,) = query_of(link)["events"]
    assert re.fullmatch(r"\d+:aux_loss_coef=0\.1", events)
    code = opened.locator("img").first
    expect(code).to_be_visible(timeout=TIMEOUT)
    page.wait_for_function("image => image.naturalWidth > 100", arg=code.element_handle(), timeout=TIMEOUT)
    code.click()
    whole = opened.get_by_role("button", name="Close").filter(has=page.get_by_alt_text("QR code of the link"))
    assert whole.bounding_box() == {"x": 0, "y": 0, **page.viewport_size}, "a QR code for the back row"
    whole.click()
    expect(whole).to_be_hidden()
    frame = opened.locator("code").filter(has_text="<iframe").inner_text()
    assert "embed=true" in frame
    assert "events=" in frame
    close(page, opened)

    other = page.context.new_page()
    troubles = watch_for_trouble(other, server)
    visit(other, link)
    other.wait_for_function("location.search.includes('events=')", timeout=TIMEOUT)
    assert query_of(other.url) == query_of(link)
    assert step_shown(other) == 0
    expect(slider(other, ALPHA)).to_have_attribute("aria-valuetext", "0")
    trained(other, steps)
    for one, same in zip(trace(page, LOSSES)["y"], trace(other, LOSSES)["y"], strict=False):
        assert one == same
    assert marks(other, LOSSES) == marks(page, LOSSES)
    other.close()
    assert not troubles


def test_an_exported_run_loads_again_and_a_broken_file_changes_nothing(page: Page, server: str, tmp_path: Path) -> None:
    visit(page, f"{server}?seed=4")
    steps = trained(page, 40)
    drawn = trace(page, LOSSES)["y"]
    opened = dialog(page, "Export")
    with page.expect_download(timeout=TIMEOUT) as download:
        opened.get_by_role("button", name="JSON", exact=True).click()
    assert download.value.suggested_filename == f"expert-collapse-seed-4-step-{steps}.json"
    saved = tmp_path / "run.json"
    download.value.save_as(saved)
    document = json.loads(saved.read_text(encoding="utf-8"))
    assert document["format"] == FORMAT
    assert len(document["history"]["step"]) == steps
    close(page, opened)
    press(page, "Reset")
    expect_step(page, 0)

    upload(page, {"name": "cut.json", "mimeType": "application/json", "buffer": saved.read_bytes()[:5000]})
    expect(page.get_by_text("This file is not valid JSON: it may be cut off or changed.")).to_be_visible()
    assert step_shown(page) == 0
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_enabled()

    upload(page, {"name": "run.json", "mimeType": "application/json", "buffer": saved.read_bytes()})
    expect(page.get_by_text("A recorded run, as it was.")).to_be_visible()
    wait_for_step(page, steps)
    wait_for_points(page, LOSSES, steps)
    assert step_shown(page) == steps
    assert trace(page, LOSSES)["y"] == drawn
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_disabled()
    page.evaluate("window.board = document.querySelector('.ecl')")
    upload(page, {"name": "other.json", "mimeType": "application/json", "buffer": b'{"format": "holiday photos"}'})
    expect(page.get_by_text("This file is not a run that was saved here.")).to_be_visible()
    assert page.evaluate("window.board === document.querySelector('.ecl')"), "a notice must not remount the board"
    assert step_shown(page) == steps
    assert trace(page, LOSSES)["y"] == drawn


def upload(page: Page, file: FilePayload) -> None:
    """Load a file through the dialog, which then closes."""
    opened = dialog(page, "Export")
    opened.locator("input[type=file]").set_input_files(file)
    opened.get_by_role("button", name="Show it", exact=True).click(timeout=TIMEOUT)
    expect(opened).to_be_hidden(timeout=TIMEOUT)


def test_a_viewer_of_a_lecture_sees_it_live_and_can_branch_off(page: Page, other_page: Page, server: str) -> None:
    visit(page, server)
    opened = dialog(page, "Share")
    opened.get_by_role("button", name="Start a lecture", exact=True).click()
    link = link_in(opened, "follow=")
    close(page, opened)  # it must stay closed, which is checked below

    visit(other_page, link)
    expect(other_page.get_by_text("You are watching a lecture.")).to_be_visible(timeout=TIMEOUT)
    expect(other_page.get_by_role("slider")).to_have_count(0)
    controls = other_page.locator(".ecl .toolbar :is([data-command], select)")
    assert controls.count() == 6
    for control in controls.all():
        expect(control).to_be_disabled()
    press(page, "Train")
    wait_for_step(page, 100)
    wait_for_step(other_page, step_shown(page), timeout=BEHIND)
    expect(opened).to_be_hidden()

    press(page, "Reset")
    other_page.wait_for_function("Number(document.querySelector('.ecl')?.dataset.step) < 50", timeout=TIMEOUT)
    expect(opened).to_be_hidden()
    train_slowly(page)
    wait_for_step(other_page, 30)
    steps = pause(page)
    expect_step(other_page, steps)
    seen = trace(page, LOSSES)["y"]

    press(other_page, "Branch off from here")
    expect(slider(other_page, ALPHA)).to_be_visible(timeout=TIMEOUT)
    expect_step(other_page, steps)
    trained(other_page, steps + 20)
    assert trace(other_page, LOSSES)["y"][: len(seen)] == seen
    assert step_shown(page) == steps
    press(page, "Step")
    expect_step(page, steps + 1)


def test_a_hovered_chart_offers_a_slide(page: Page, server: str, tmp_path: Path) -> None:
    visit(page, f"{server}?seed=6")
    trained(page, 30)
    chart = region(page, LOSSES)
    page.mouse.move(2, 2)
    expect(chart.locator(".tools")).to_have_css("opacity", "0")
    chart.hover()
    expect(chart.locator(".tools")).to_have_css("opacity", "1")
    picture = saved_as(page, "PNG", tmp_path)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (1600, 900)
    drawing = saved_as(page, "SVG", tmp_path).decode()
    assert "seed=6" in drawing
    assert LOSSES in drawing


def saved_as(page: Page, kind: str, folder: Path) -> bytes:
    """Press a chart's button and read the file."""
    with page.expect_download(timeout=TIMEOUT) as download:
        press(page, f"{LOSSES} as {kind}")
    assert download.value.suggested_filename.endswith(f".{kind.lower()}")
    download.value.save_as(folder / kind)
    return (folder / kind).read_bytes()


def test_a_link_hides_the_controls_that_it_names(page: Page, server: str) -> None:
    visit(page, f"{server}?hide=step,speed,presets,num_experts&embed=true")
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Reset", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Step", exact=True)).to_be_hidden()
    expect(page.get_by_label("Speed in steps per second")).to_be_hidden()
    expect(page.get_by_test_id("stMainMenu")).to_be_hidden()
    opener = page.get_by_test_id("stExpandSidebarButton").get_by_role("button")
    if opener.is_visible():
        opener.click()
    expect(slider(page, ALPHA)).to_be_visible()
    expect(slider(page, "Experts")).to_have_count(0)
    expect(page.locator("[class*=st-key-preset]")).to_have_count(0)
    wait_for_hide = "new URLSearchParams(location.search).get('hide') === 'num_experts,presets,speed,step'"
    page.wait_for_function(wait_for_hide, timeout=TIMEOUT)


def test_the_page_works_by_keyboard_alone(page: Page, server: str) -> None:
    visit(page, server)
    tab_to(page, "[data-command=toggle]")
    page.keyboard.press("Space")
    wait_for_step(page, 20)
    expect(page.locator("[data-command=toggle]")).to_be_focused()
    tab_to(page, "[role=tab]")
    for name in ("Mechanism", "Specialization"):
        page.keyboard.press("ArrowRight")
        chosen = page.get_by_role("tab", name=name, exact=True)
        expect(chosen).to_be_focused()
        expect(chosen).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tabpanel", name=name, exact=True)).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    term = tab_to(page, ".panel abbr.term").element_handle()
    seen = (
        "term => { const box = term.getBoundingClientRect(), style = getComputedStyle(term, '::after');"
        " return style.content.includes(term.dataset.short.slice(0, 10))"
        " && document.elementFromPoint(box.left + 12, box.top + parseFloat(style.top) + 10) === term }"
    )
    page.wait_for_function(seen, arg=term, timeout=TIMEOUT)


def test_on_a_phone_the_terms_of_the_loss_stay_in_sight_while_the_sliders_move(
    home: BrowserContext, server: str
) -> None:
    with new_page(home, server, 390, 844) as page:
        page.goto(f"{server}/anatomy")
        terms = page.locator(".st-key-anatomy-terms")
        expect(terms.locator(".main-svg").first).to_be_visible(timeout=TIMEOUT)
        expect(terms).to_contain_text("they add up to 1.000")
        for name in ("f of 4, %", "P of 4, %"):
            slider(page, name).focus()
            page.keyboard.press("PageUp")
            expect(terms).to_be_in_viewport(ratio=1)
            box, handle = terms.bounding_box(), slider(page, name).locator("..").bounding_box()
            assert box
            assert handle
            assert handle["y"] >= box["y"] + box["height"]
        expect(terms).not_to_contain_text("they add up to 1.000")
        # The sliders pass below the terms, and below the line with the sidebar's button, which is not transparent.
        expect(page.get_by_test_id("stHeader")).to_have_css("background-color", "rgb(255, 255, 255)")


def test_on_a_phone_the_lessons_are_one_line_in_which_the_open_one_is_in_sight(
    home: BrowserContext, server: str
) -> None:
    with new_page(home, server, 390, 844) as page:
        page.goto(f"{server}/learn")
        lessons = page.locator(".st-key-presets-lessons")
        for number in (1, 12, len(COURSE), 5):
            chip = lessons.get_by_role("button", name=f"{number}. {COURSE[number - 1].title}", exact=True)
            chip.click()
            heading = page.get_by_role("heading", name=f"{number}. {COURSE[number - 1].title}", exact=True)
            expect(heading).to_be_in_viewport(timeout=TIMEOUT)
            expect(chip).to_be_in_viewport(ratio=0.99)
            box = lessons.bounding_box()
            assert box
            assert box["height"] < 60


def test_a_mistake_in_the_museum_is_named_from_its_chart(page: Page, server: str) -> None:
    page.goto(f"{server}/museum?exhibit=2")
    page.get_by_role("button", name="Start this exhibit").click()
    wait_for_step(page, 120)
    expect(page.locator(".ecl .state .word")).to_have_text("No task gradient", timeout=TIMEOUT)
    panel = open_tab(page, "Router")
    task = trace(page, "Pulls on the router")["y"]
    assert all(value is None or value < 1e-5 for value in task)
    assert "mistake" not in page.url
    page.get_by_text("The chosen expert's weight is always 1").click()
    expect(page.get_by_text("Right: the chosen expert's weight is always 1.")).to_be_visible(timeout=TIMEOUT)
    expect(page.get_by_text("minimind #858")).to_be_visible()
    expect(page.get_by_role("button", name="✓ Exhibit 2")).to_be_visible()
    expect(panel).to_be_visible()
    page.get_by_role("button", name="Train it beside the healthy run").click()
    expect(page.locator(".ecl.compare")).to_be_visible(timeout=TIMEOUT)
    page.wait_for_function("decodeURIComponent(location.search).includes('0:mistake=constant_weight')", timeout=TIMEOUT)
