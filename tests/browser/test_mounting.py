"""Boards and the elements that Streamlit gives them, takes away and brings again."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.support.serving import ROOT

STAGE = """
class Kind extends Board {
  receive(component, { session }) { Object.assign(this, { component, session }); }
  followTheme() {}
}
const mount = mounted(Kind);
window.told = [];
window.enter = () => {
  const parentElement = document.body.appendChild(document.createElement("div"));
  parentElement.append(Object.assign(document.createElement("div"), { className: "ecl" }));
  const words = ({ session, commands }) => [session, ...commands.map(({ name }) => name)].join(" ");
  const setTriggerValue = (_, delivery) => told.push(words(delivery));
  const call = (session = "s") => mount({ parentElement, data: { session }, setTriggerValue });
  return { parentElement, call, clean: call() };
};
window.board = () => boardsMade.at(-1);
0; // so that there is no function to call
"""


@pytest.fixture
def stage(context) -> Page:
    """An empty page with the code of boards, whose clock stands still."""
    page = context.new_page()
    page.clock.install()
    page.goto("about:blank")
    shared = "".join((ROOT / "pages/dashboard/js" / name).read_text("utf-8") for name in ("bindings.js", "board.js"))
    made = shared.replace("  constructor(root) {", "  constructor(root) { (window.boardsMade ??= []).push(this);", 1)
    page.evaluate(f"{{ {made} {STAGE} }}")
    return page


def test_an_element_that_comes_again_has_the_same_board_with_its_open_commands(stage: Page) -> None:
    stage.evaluate("window.first = enter(); board().send({ name: 'train' })")
    stage.evaluate("first.parentElement.remove(); window.second = enter(); first.clean()")  # in React's order
    assert stage.evaluate("boardsMade.length") == 1
    assert stage.evaluate("board().root.parentElement === second.parentElement")
    stage.clock.run_for(60_000)
    assert len(stage.evaluate("told")) > 3, "it was closed, or told nothing again"
    assert set(stage.evaluate("told")) == {"s train"}


def test_nothing_is_told_while_there_is_no_element(stage: Page) -> None:
    stage.evaluate("window.first = enter(); board().send({ name: 'train' }); first.parentElement.remove()")
    stage.clock.run_for(60_000)
    assert stage.evaluate("told") == ["s train"]


def test_a_board_whose_element_does_not_come_again_is_closed(stage: Page) -> None:
    stage.evaluate("window.first = enter(); board().send({ name: 'train' })")
    stage.evaluate("first.clean(); first.parentElement.remove()")
    stage.clock.run_for(3_000)
    stage.evaluate("window.second = enter()")
    assert stage.evaluate("boardsMade.length") == 2


def test_two_elements_have_two_boards(stage: Page) -> None:
    stage.evaluate("window.first = enter(); window.second = enter()")
    assert stage.evaluate("boardsMade.length") == 2


def test_a_cleaning_that_is_followed_by_a_call_ends_nothing(stage: Page) -> None:
    stage.evaluate("window.first = enter(); board().send({ name: 'train' }); first.clean(); first.call(); 0")
    stage.clock.run_for(60_000)
    assert stage.evaluate("boardsMade.length") == 1
    assert len(stage.evaluate("told")) > 3


def test_what_one_session_did_not_obey_is_told_to_the_next(stage: Page) -> None:
    stage.evaluate("window.first = enter(); board().send({ name: 'train' }); first.call('t'); 0")
    stage.clock.run_for(3_000)
    assert stage.evaluate("told") == ["s train", "t train"]
