"""A knob's widget and the reports of a browser that may be late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.runtime.scriptrunner import RerunData, RerunException
from streamlit.runtime.state import session_state_proxy
from streamlit.runtime.state.safe_session_state import SafeSessionState
from streamlit.runtime.state.session_state import SessionState

from moe_sim import KNOBS, RunConfig
from pages.sidebar import run_controls
from pages.visitor.widgets import reported

KNOB = KNOBS["topic_skew"]


class State(dict[str, Any]):
    """A session state that Streamlit may interrupt whoever reads it."""

    interrupts = False

    def get(self, *args: Any) -> Any:
        if self.interrupts:
            raise RerunException(RerunData())
        return super().get(*args)

    def setdefault(self, *args: Any) -> Any:
        self.get("")
        return super().setdefault(*args)


class Visitor:
    """A session, the widget that it sees, and what its browser reports."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **knobs: Any) -> None:
        self.acting = threading.RLock()
        self.run = SimpleNamespace(config=RunConfig(**knobs))
        self.state = State()
        self.callbacks: list[tuple[str, Callable[[], None]]] = []
        monkeypatch.setattr(run_controls, "st", SimpleNamespace(session_state=self.state))
        monkeypatch.setattr(run_controls, "reported", partial(dict.get, self.state))
        monkeypatch.setattr(run_controls, "knob_widget", self._widget)

    def _widget(self, knob: Any, value: Any, beside: Any, *, key: str, on_change: Any, **_: Any) -> None:
        self.state.setdefault(key, value)
        self.callbacks.append((key, on_change))

    def draw(self) -> None:
        run_controls._control(self, KNOB, lambda: self.run.config, self.change)  # type: ignore[arg-type]

    def change(self, **changes: Any) -> None:
        self.run.config = self.run.config.replace(**changes)

    def report(self, value: float, which: int = -1) -> None:
        """The browser reports a widget's value."""
        key, on_change = self.callbacks[which]
        self.state[key] = value
        self.state.interrupts = True
        on_change()
        self.state.interrupts = False


def test_a_moved_widget_acts_there_and_back_without_a_script_run_between(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Visitor(monkeypatch)
    visitor.draw()
    visitor.report(2.0)
    assert visitor.run.config.topic_skew == 2.0
    visitor.report(0.5)
    assert visitor.run.config.topic_skew == 0.5


def test_a_widget_drawn_for_one_run_does_not_change_the_next_by_reporting_the_value_it_was_drawn_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visitor = Visitor(monkeypatch, topic_skew=2.0)  # as a planned change has set it
    visitor.draw()
    visitor.run = SimpleNamespace(config=RunConfig(task="text"))
    visitor.report(2.0)
    assert visitor.run.config.topic_skew == 0.5
    visitor.report(1.0)  # moved by the visitor just before
    assert visitor.run.config.topic_skew == 1.0


def test_an_outdated_widget_that_reports_its_value_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Visitor(monkeypatch)
    visitor.draw()
    visitor.change(topic_skew=2.0)
    visitor.draw()
    visitor.report(0.5, which=0)
    assert visitor.run.config.topic_skew == 2.0


def test_a_widget_that_is_moved_up_and_down_again_before_it_is_drawn_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visitor = Visitor(monkeypatch)
    visitor.draw()
    for value in (2.0, 1.0, 0.5):
        visitor.report(value)
    visitor.draw()
    assert visitor.run.config.topic_skew == 0.5
    assert {key for key, _ in visitor.callbacks} == {"live-topic_skew-0"}, "another widget would lose the focus"


def test_a_move_counts_even_if_streamlit_did_not_call_its_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Visitor(monkeypatch)
    visitor.draw()
    visitor.report(1.0)  # and, before the next drawing:
    visitor.state["live-topic_skew-0"] = 2.0
    visitor.draw()
    assert visitor.run.config.topic_skew == 2.0
    visitor.state["live-topic_skew-0"] = 1.0
    visitor.draw()
    assert visitor.run.config.topic_skew == 1.0
    assert {key for key, _ in visitor.callbacks} == {"live-topic_skew-0"}


def test_a_refused_move_is_tried_once_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Visitor(monkeypatch)
    tried: list[Any] = []
    monkeypatch.setattr(visitor, "change", lambda **changes: tried.append(changes))
    visitor.draw()
    visitor.report(2.0)
    visitor.draw()
    assert tried == [{"topic_skew": 2.0}]
    assert visitor.callbacks[-1][0] == "live-topic_skew-1", "another widget shows the value that still holds"


def test_a_callback_that_reads_a_report_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise RerunException(RerunData())

    state = SessionState()
    state["alpha"] = 0.3
    monkeypatch.setattr(session_state_proxy, "get_session_state", lambda: SafeSessionState(state, interrupt))
    with pytest.raises(RerunException):
        st.session_state.get("alpha")
    assert reported("alpha") == 0.3
    assert reported("other", 1) == 1
