"""Notices: how long each stays, in which order, and how many."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from pages.text import notices
from tests.support.apps import opened, session_of, settled


def shown(app: AppTest) -> list[str]:
    return [warning.value for warning in app.warning]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the notices read, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(notices.time, "monotonic", lambda: now[0])
    return now


def test_a_notice_outlasts_the_script_runs_of_its_reading_time(clock: list[float]) -> None:
    app = opened(top_k="99")
    first = shown(app)
    assert len(first) == 1
    clock[0] += notices.READING_TIME - 0.1
    assert shown(settled(app)) == first
    clock[0] += 0.2
    assert shown(settled(app)) == []


def test_the_newest_notice_is_first_and_a_repeated_one_is_shown_once(clock: list[float]) -> None:
    app = opened()
    session_of(app).notices.extend(["One.", "Two."])
    settled(app)
    clock[0] += 4
    session_of(app).notices.extend(["Three.", "Two."])
    assert shown(settled(app)) == ["Three.", "Two.", "One."]
    clock[0] += 4
    assert shown(settled(app)) == ["Three.", "Two."]


def test_more_notices_than_fit_are_counted(clock: list[float]) -> None:
    app = opened()
    session_of(app).notices.extend([f"Sentence {number}." for number in range(7)])
    assert shown(settled(app)) == [*(f"Sentence {number}." for number in range(4)), "And 3 more."]
