"""Turns are shared fairly among the keys that wait, and a turn that is given up delays nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from moe_sim.server.turns import Turns
from tests.support.asynchronous import run_to_end


def order_of(turns: Turns, asked: dict[str, list[asyncio.Future[None]]]) -> list[str]:
    """The keys in the order in which their turns come. Ends each turn at once."""
    order = []
    while granted := [key for key, futures in asked.items() if any(future.done() for future in futures)]:
        (key,) = granted
        asked[key] = [future for future in asked[key] if not future.done()]
        order.append(key)
        turns.end()
    return order


def in_a_loop(check: Any) -> None:
    async def story() -> None:
        check()

    def start() -> Coroutine[Any, Any, None]:
        return story()

    run_to_end(start)


def test_a_key_that_asks_once_goes_second_however_many_wait_under_another() -> None:
    def check() -> None:
        turns = Turns()
        asked = {"busy": [turns.ask("busy") for _ in range(6)], "once": [turns.ask("once")]}
        assert (turns.waiting("busy"), turns.waiting("once"), turns.all_waiting) == (5, 1, 6)
        assert order_of(turns, asked) == ["busy", "once", *["busy"] * 5]
        assert turns.all_waiting == 0

    in_a_loop(check)


def test_keys_that_wait_for_many_take_turns() -> None:
    def check() -> None:
        turns = Turns()
        asked = {key: [turns.ask(key) for _ in range(3)] for key in "abc"}
        assert order_of(turns, asked) == list("abcabcabc")

    in_a_loop(check)


def test_a_key_that_asks_again_and_again_does_not_overtake_one_that_waits() -> None:
    def check() -> None:
        turns = Turns()
        turns.ask("now")
        early = turns.ask("patient")
        for _ in range(3):
            late = turns.ask("again")
            turns.end()
            if early.done():
                break
            turns.withdraw("again", late)
        assert early.done()

    in_a_loop(check)


def test_a_turn_given_up_is_skipped_and_one_given_up_late_ends() -> None:
    def check() -> None:
        turns = Turns()
        first, second, third = (turns.ask(key) for key in "abc")
        turns.withdraw("b", second)
        assert turns.all_waiting == 1
        turns.withdraw("a", first)
        assert third.done()
        turns.end()
        assert turns.ask("d").done()

    in_a_loop(check)
