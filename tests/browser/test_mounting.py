"""Boards, and the elements that Streamlit gives them, takes away and brings back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

from pages.dashboard.modules import join_modules
from tests.support.serving import ROOT

SCRIPTS = ROOT / "pages" / "dashboard" / "js"
STAGE = """
import { Board } from "./board.js";
import { mounted } from "./mount.js";

window.boards = [];
window.sent = [];

class Kind extends Board {
  constructor(root) {
    super(root);
    boards.push(this);
  }

  receive(component, { session }) {
    this.component = component;
    this.commands.session = session;
  }
}

const mount = mounted(Kind);
window.enter = () => {
  const parentElement = document.body.appendChild(document.createElement("div"));
  const innerHTML = '<label class="layer"><select></select></label>';
  parentElement.append(Object.assign(document.createElement("div"), { className: "ecl", innerHTML }));
  const words = ({ session, commands }) => [session, ...commands.map(({ name }) => name)].join(" ");
  const setTriggerValue = (_, delivery) => sent.push(words(delivery));
  const call = (session = "s") => mount({ parentElement, data: [{ session }], setTriggerValue });
  return { parentElement, call, clean: call() };
};
"""
"""Elements that come and go, as Streamlit has them, with a kind of board that draws nothing."""


@pytest.fixture
def stage(context, tmp_path: Path) -> Page:
    """An empty page with the code of boards, whose clock stands still."""
    folder = shutil.copytree(SCRIPTS, tmp_path / "js")
    (folder / "stage.js").write_text(STAGE, encoding="utf-8")
    page = context.new_page()
    page.clock.install()
    page.goto("about:blank")
    page.evaluate(
        "code => import(URL.createObjectURL(new Blob([code], { type: 'text/javascript' }))).then(() => {})",
        join_modules(folder / "stage.js"),
    )
    return page


def test_an_element_that_comes_back_has_the_same_board_with_its_pending_commands(stage: Page) -> None:
    stage.evaluate("window.first = enter(); boards.at(-1).send({ name: 'train' })")
    stage.evaluate("first.parentElement.remove(); window.second = enter(); first.clean()")  # in React's order
    assert stage.evaluate("boards.length") == 1
    assert stage.evaluate("boards.at(-1).root.parentElement === second.parentElement")
    stage.clock.run_for(60_000)
    assert len(stage.evaluate("sent")) > 3, "it was closed, or sent nothing again"
    assert set(stage.evaluate("sent")) == {"s train"}


def test_nothing_is_sent_while_there_is_no_element(stage: Page) -> None:
    stage.evaluate("window.first = enter(); boards.at(-1).send({ name: 'train' }); first.parentElement.remove()")
    stage.clock.run_for(60_000)
    assert stage.evaluate("sent") == ["s train"]


def test_a_board_whose_element_does_not_come_back_is_closed(stage: Page) -> None:
    stage.evaluate("window.first = enter(); boards.at(-1).send({ name: 'train' })")
    stage.evaluate("first.clean(); first.parentElement.remove()")
    stage.clock.run_for(3_000)
    stage.evaluate("window.second = enter()")
    assert stage.evaluate("boards.length") == 2


def test_two_elements_have_two_boards(stage: Page) -> None:
    stage.evaluate("window.first = enter(); window.second = enter()")
    assert stage.evaluate("boards.length") == 2


def test_a_clean_up_that_is_followed_by_a_call_closes_nothing(stage: Page) -> None:
    stage.evaluate("window.first = enter(); boards.at(-1).send({ name: 'train' }); first.clean(); first.call(); 0")
    stage.clock.run_for(60_000)
    assert stage.evaluate("boards.length") == 1
    assert len(stage.evaluate("sent")) > 3


def test_what_one_session_did_not_obey_is_sent_to_the_next(stage: Page) -> None:
    stage.evaluate("window.first = enter(); boards.at(-1).send({ name: 'train' }); first.call('t'); 0")
    stage.clock.run_for(3_000)
    assert stage.evaluate("sent") == ["s train", "t train"]
