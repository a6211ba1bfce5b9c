"""A knob's widget and the reports of a browser that may be late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from moe_sim import KNOBS, RunConfig
from pages.sidebar import run_controls

KNOB = KNOBS["topic_skew"]


class Visitor:
    """A session, the widget that it sees, and what its browser reports."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **knobs: Any) -> None:
        self.acting = threading.RLock()
        self.run = SimpleNamespace(config=RunConfig(**knobs))
        self.state: dict[str, Any] = {}
        self.callbacks: list[tuple[str, Callable[[], None]]] = []
        monkeypatch.setattr(run_controls, "st", SimpleNamespace(session_state=self.state))
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
        on_change()


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
