"""The course, the quiz, Share and Export by keyboard alone: Tab, Shift+Tab, Enter, Space, Escape and arrows."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Locator, Page, expect

from moe_sim.config.codec import format_value
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import MAIN
from moe_sim.teaching.course.catalogue import COURSE
from moe_sim.teaching.course.lesson import ComparisonLesson, Lesson, TraceLesson
from pages.sidebar.knob_widgets import choice_in_words
from tests.browser.driver import TIMEOUT, expect_step, slider, step_shown, visit, wait_for_step

MOST_LOOKS = 60
"""Looks at where the focus is, between two elements. The page may change meanwhile."""
START = re.compile("^Start (this lesson|again)$")
FAST, SLOW = "as fast as possible", "120 steps/s"
"""Speeds. At the first, a run that another visitor has trained before is over at once."""
MARGIN = 5
"""Pixels around an element in which its focus shows."""

NEXT_KEYS = """target => {
  const from = document.activeElement
  if (from === target) return ['', 0]
  const isBefore = from.compareDocumentPosition(target) & Node.DOCUMENT_POSITION_PRECEDING
  if (target.closest('[role=radiogroup]')?.contains(from)) return [isBefore ? 'ArrowLeft' : 'ArrowRight', 1]
  const stops = [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
    .filter(one => one.tabIndex >= 0 && !one.disabled && one.checkVisibility({ visibilityProperty: true }))
  const distance = Math.abs(stops.indexOf(target) - Math.max(stops.indexOf(from), 0))
  return [isBefore ? 'Shift+Tab' : 'Tab', Math.max(1, Math.floor(0.8 * distance))]
}"""
"""A script that returns the key that leads towards an element, and how often to press it before looking again; no key
once it has the focus."""
KEY_TO_OPTION = """(wanted, active) => {
  const from = document.getElementById(active)
  if (from === wanted) return null
  const isBefore = from && from.compareDocumentPosition(wanted) & Node.DOCUMENT_POSITION_PRECEDING
  return isBefore ? 'ArrowUp' : 'ArrowDown'
}"""
"""A script that returns the key that leads from the active option of an open list to another one."""
SHOWN = 150
"""Milliseconds after which the page shows where the focus is."""
LEAST_CHANGE = 50
"""How much the focus must change some pixel (of 255). Measured: 116 and more. Streamlit alone changes a page link by 13
and a toggle by 23."""


class Keyboard:
    """A visitor without a mouse. Fails where a control cannot be reached, and where nothing shows that it has the
    focus."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._checked: set[str] = set()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def reach(self, target: Locator) -> None:
        """Press Tab, or Shift+Tab if the target comes before the focus, until it has the focus. Arrows lead to the
        other choices of a group."""
        expect(target).to_be_visible(timeout=TIMEOUT)
        expect(target).to_be_enabled(timeout=TIMEOUT)
        for _ in range(MOST_LOOKS):
            key, times = target.evaluate(NEXT_KEYS)
            if key:
                self.press(*times * [key])
                continue
            expect(self.page.locator("[data-stale=true]")).to_have_count(0, timeout=TIMEOUT)
            if not target.evaluate(NEXT_KEYS)[0]:  # the page may have been redrawn meanwhile
                return self._check_focus(target)
        raise AssertionError(f"{target} cannot be reached with Tab")

    def use(self, target: Locator, key: str = "Enter") -> None:
        """Reach a control and press a key on it."""
        self.reach(target)
        self.press(key)

    def button(self, name: str) -> None:
        """Press a button by its accessible name."""
        self.use(self.page.get_by_role("button", name=name, exact=True))

    def _check_focus(self, target: Locator) -> None:
        """Assert that focus is visible on the first control of each kind."""
        kind = target.evaluate(
            "({ nodeName, role, type, dataset }) => [nodeName, role, type, dataset.testid, dataset.variant].join()"
        )
        if kind in self._checked:
            return
        self._checked.add(kind)
        focused = self._picture(target)
        if target.evaluate("target => Boolean(target.closest('[role=dialog]'))"):
            self.press("Tab")  # a dialog keeps the focus
        else:
            target.evaluate("target => target.blur()")
        change = max(high for _, high in ImageChops.difference(focused, self._picture(target)).getextrema())
        assert change >= LEAST_CHANGE, f"too little shows that {target} has the focus: {change}"
        target.evaluate("target => target.focus()")

    def _picture(self, target: Locator) -> Image.Image:
        """What the page shows of a control."""
        self.page.wait_for_timeout(SHOWN)
        widget = target.locator("xpath=self::input/ancestor::*[starts-with(@data-testid, 'st')][1]")
        box = (widget if widget.count() else target).bounding_box()
        assert box
        left, top = max(0.0, box["x"] - MARGIN), max(0.0, box["y"] - MARGIN)
        clip = {"x": left, "y": top, "width": box["width"] + 2 * MARGIN, "height": box["height"] + 2 * MARGIN}
        png = self.page.screenshot(clip=clip, animations="disabled")  # type: ignore[arg-type]
        return Image.open(BytesIO(png)).convert("RGB")


def turn(keyboard: Keyboard, name: str, value: Any) -> None:
    """Set a knob in the sidebar, after opening its group, and wait until the address holds it."""
    knob, page = KNOBS[name], keyboard.page
    if name == "frozen":
        return keyboard.button("Freeze" if value else "Unfreeze")
    if knob.group != MAIN:
        title = page.get_by_text(knob.group, exact=True)
        group = page.get_by_test_id("stSidebar").get_by_test_id("stExpander").filter(has=title).locator("details")
        if group.get_attribute("open") is None:
            keyboard.use(group.locator("summary"))
    if knob.choices:
        box = page.get_by_test_id("stSelectbox").filter(has_text=knob.label).get_by_role("combobox")
        keyboard.use(box, "ArrowDown")
        wanted = page.get_by_role("option", name=choice_in_words(knob, value), exact=True)
        expect(wanted).to_be_visible(timeout=TIMEOUT)
        for _ in knob.choices:
            key = wanted.evaluate(KEY_TO_OPTION, box.get_attribute("aria-activedescendant"))
            if key is None:
                break
            keyboard.press(key)
        keyboard.press("Enter")
    else:
        keyboard.reach(slider(page, knob.label))
        shown = float(slider(page, knob.label).get_attribute("aria-valuetext").replace("off", "inf"))
        for _ in range(len(knob.stops or range(knob.minimum, knob.maximum))):
            if slider(page, knob.label).get_attribute("aria-valuetext") == format_value(value):
                break
            keyboard.press("ArrowRight" if shown < value else "ArrowLeft")
    text = f"{name}={format_value(value)}"
    page.wait_for_function("text => decodeURIComponent(location.search).includes(text)", arg=text, timeout=TIMEOUT)


def set_speed(keyboard: Keyboard, words: str) -> None:
    """Choose a speed in the toolbar."""
    speed = keyboard.page.get_by_label("Speed in steps per second")
    if speed.evaluate("select => select.selectedOptions[0].text") != words:
        unfold = keyboard.page.get_by_role("button", name="More controls")
        if unfold.is_visible() and unfold.get_attribute("aria-expanded") == "false":
            keyboard.use(unfold)
        keyboard.reach(speed)
        keyboard.page.keyboard.type(words)


def train(keyboard: Keyboard, step: int) -> None:
    """Train to that step or a few steps further, then pause. The button keeps the focus."""
    toggle = keyboard.page.locator("[data-command=toggle]")
    keyboard.use(toggle, "Space")
    expect(toggle).to_have_text("Pause", timeout=TIMEOUT)
    wait_for_step(keyboard.page, step)
    expect(toggle).to_be_focused()
    keyboard.press("Space")
    expect(toggle).to_have_text("Train", timeout=TIMEOUT)


def do_lesson(keyboard: Keyboard, lesson: Lesson) -> None:
    """What the course intends, all of it by keyboard."""
    keyboard.use(keyboard.page.get_by_role("button", name=START))
    expect_step(keyboard.page, 0)
    for name, value in lesson.intended_start.items():
        turn(keyboard, name, value)
    late = 0  # a loaded machine pauses late; the steps between two changes count
    for event in lesson.intended:
        set_speed(keyboard, SLOW)
        train(keyboard, event.step + late)
        late = max(late, step_shown(keyboard.page) - event.step)
        for name, value in event.changes.items():
            turn(keyboard, name, value)
    set_speed(keyboard, FAST)
    keyboard.use(keyboard.page.locator("[data-command=toggle]"), "Space")


def predict_and_run(keyboard: Keyboard, lesson: ComparisonLesson) -> None:
    """Choose the first answer to every question and run the experiments."""
    page = keyboard.page
    questions = page.get_by_test_id("stMain").get_by_role("radiogroup")
    expect(questions).to_have_count(len(lesson.experiments), timeout=TIMEOUT)
    for question in questions.all():
        keyboard.use(question.get_by_role("radio").first, "Space")
    keyboard.button("Run the four experiments")


def answer_two_questions(keyboard: Keyboard) -> None:
    """Answer a question of the quiz, and the next."""
    page = keyboard.page
    options = page.locator("[class*=st-key-quiz-open] button")
    for _ in range(2):
        keyboard.use(options.first)
        expect(options).to_have_count(0, timeout=TIMEOUT)
        keyboard.button("Next question")
        expect(options.first).to_be_visible(timeout=TIMEOUT)


def share(keyboard: Keyboard) -> None:
    """Make a link that starts training, copy it, and close the dialog."""
    page = keyboard.page
    keyboard.button("Share")
    dialog = page.get_by_role("dialog")
    keyboard.use(dialog.get_by_label("Start training when opened"), "Space")
    expect(dialog.locator("code").filter(has_text="autoplay=1").first).to_be_visible(timeout=TIMEOUT)
    link = dialog.get_by_test_id("stCode").first
    keyboard.reach(link)
    copy = link.get_by_role("button", name="Copy to clipboard")
    expect(copy).to_be_visible(timeout=TIMEOUT)  # as long as the focus is on it or on the link
    keyboard.press("Tab")
    expect(copy).to_be_focused()
    keyboard.press("Enter")
    assert "autoplay=1" in page.evaluate("navigator.clipboard.readText()")
    keyboard.press("Escape")
    expect(dialog).to_be_hidden(timeout=TIMEOUT)


def save_and_load(keyboard: Keyboard, file: Path) -> None:
    """Export the run and open it again."""
    page = keyboard.page
    keyboard.button("Export")
    dialog = page.get_by_role("dialog")
    with page.expect_download(timeout=TIMEOUT) as download:
        keyboard.use(dialog.get_by_role("button", name="JSON", exact=True))
    download.value.save_as(file)
    with page.expect_file_chooser(timeout=TIMEOUT) as chooser:
        keyboard.use(dialog.get_by_role("button", name="Upload", exact=True))
    chooser.value.set_files(file)
    keyboard.use(dialog.get_by_role("button", name="Show it", exact=True))
    expect(page.get_by_text("A recorded run, as it was.")).to_be_visible(timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("first", "last"), [(1, 4), (5, 8), (9, 12), (13, len(COURSE))], ids=lambda number: f"lesson {number}"
)
def test_the_course_works_by_keyboard_alone(page: Page, server: str, first: int, last: int) -> None:
    keyboard = Keyboard(page)
    visit(page, server)
    keyboard.use(page.get_by_role("navigation").get_by_role("link", name="Learn", exact=True))
    if first > 1:
        keyboard.button(f"{first}. {COURSE[first - 1].title}")
    for number, lesson in enumerate(COURSE[first - 1 : last], start=first):
        expect(page.get_by_role("heading", name=f"{number}. {lesson.title}", exact=True)).to_be_visible(timeout=TIMEOUT)
        if isinstance(lesson, Lesson):
            do_lesson(keyboard, lesson)
        elif isinstance(lesson, ComparisonLesson):
            predict_and_run(keyboard, lesson)
        elif isinstance(lesson, TraceLesson):
            right = next(one.text for one in lesson.answers if one.right)
            keyboard.use(page.get_by_role("radio", name=right, exact=True), "Space")
        expect(page.get_by_text(f"Done: lesson “{lesson.title}” passed at step")).to_be_visible(timeout=TIMEOUT)
        if number < last:
            keyboard.button("Next lesson")


def test_share_export_and_the_quiz_work_by_keyboard_alone(page: Page, server: str, tmp_path: Path) -> None:
    keyboard = Keyboard(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit(page, server)
    train(keyboard, 20)
    share(keyboard)
    save_and_load(keyboard, tmp_path / "run.json")
    keyboard.use(page.get_by_role("navigation").get_by_role("link", name="Quiz", exact=True))
    answer_two_questions(keyboard)
