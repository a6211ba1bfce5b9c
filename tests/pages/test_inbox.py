"""Commands of a board: each is executed once and in order, and none is lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.dashboard.inbox import MOST, Inbox


def delivery(*numbers: int, board: str = "a", session: str = "s") -> dict[str, Any]:
    commands = [{"name": f"n{number}", "number": number} for number in numbers]
    return {"board": board, "session": session, "commands": commands}


def numbers(commands: list[dict[str, Any]]) -> list[int]:
    return [command["number"] for command in commands]


def test_a_command_that_is_resent_is_obeyed_once() -> None:
    inbox = Inbox("s")
    assert numbers(inbox.fresh(delivery(1))) == [1]
    assert numbers(inbox.fresh(delivery(1, 2))) == [2]
    assert inbox.fresh(delivery(1, 2)) == []
    assert inbox.obeyed == {"board": "a", "last": 2}


def test_two_deliveries_at_once_are_obeyed_one_after_the_other() -> None:
    inbox, obeyed, begun, going_on = Inbox("s"), [], threading.Event(), threading.Event()

    def obey(command: dict[str, Any]) -> None:
        begun.set()
        if command["number"] == 1:
            going_on.wait(10)
        obeyed.append(command["number"])

    first = threading.Thread(target=inbox.obey, args=(lambda: delivery(1, 2), obey))
    second = threading.Thread(target=inbox.obey, args=(lambda: delivery(1, 2, 3), obey))
    first.start()
    assert begun.wait(10)
    second.start()
    second.join(0.2)
    assert obeyed == []
    going_on.set()
    first.join(10)
    second.join(10)
    assert obeyed == [1, 2, 3]


def test_a_new_board_restarts_the_count() -> None:
    inbox = Inbox("s")
    inbox.fresh(delivery(1, 2, 3))
    assert numbers(inbox.fresh(delivery(1, board="b"))) == [1]
    assert inbox.obeyed == {"board": "b", "last": 1}


def test_what_was_meant_for_the_session_before_is_obeyed_when_it_is_resent_to_this_one() -> None:
    inbox = Inbox("s")
    assert inbox.fresh(delivery(1, 2, session="before")) == []
    assert inbox.obeyed == {"board": "", "last": 0}
    assert numbers(inbox.fresh(delivery(1, 2))) == [1, 2]


def test_of_too_many_commands_the_first_are_obeyed_and_the_rest_when_they_are_resent() -> None:
    inbox, everything = Inbox("s"), list(range(1, 2 * MOST + 4))
    for first in (0, MOST, 2 * MOST):
        assert numbers(inbox.fresh(delivery(*everything))) == everything[first : first + MOST]


@given(st.lists(st.integers(1, 6), max_size=8))
def test_whatever_deliveries_arrive_each_command_is_executed_once_and_in_order(ends: list[int]) -> None:
    # A delivery holds all commands from the first unacknowledged one to the newest.
    inbox, obeyed = Inbox("s"), []
    for end in ends:
        obeyed += numbers(inbox.fresh(delivery(*range(inbox.obeyed["last"] + 1, end + 1))))
    assert obeyed == list(range(1, max(ends, default=0) + 1))


WRONG: tuple[dict[str, Any], ...] = (
    {"board": 3},
    {"board": "a" * 41},
    {"session": 3},
    {"commands": "train"},
    {"commands": [None, "train", {"name": "train"}, {"number": 1}, {"name": "x", "number": "1"}]},
    {"commands": [{"name": "train", "number": 2**53}, {"name": "train", "number": 10**400}]},
)


@pytest.mark.parametrize(
    "received", [None, [], "train", 7, {}, {"board": "a"}, *(delivery(1) | wrong for wrong in WRONG)]
)
def test_an_invalid_delivery_holds_no_commands(received: Any) -> None:
    assert Inbox("s").fresh(received) == []
