"""Clients that report values which no widget offers: none reaches our code, and they cannot fill the log."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from moe_sim import RunConfig
from moe_sim.config.run_plan import RunPlan
from moe_sim.config.settings import Settings
from moe_sim.config.thresholds import Thresholds
from moe_sim.server.server import Server
from pages.visitor.comparison import ComparisonSession
from pages.visitor.widgets import entry_of, number_in, one_of, text_of, whole_number_in
from tests.bench.load_clients import LARGEST, Visitor
from tests.support.asynchronous import run_to_end
from tests.support.forging import PAGES, Forger
from tests.support.serving import ROOT, launch, wait_until_healthy

WITHOUT_LIMITS = """
from moe_sim import logs
logs.MOST_OF_A_SESSION = logs.MOST_TRACEBACKS = 10**9
from streamlit.web.cli import main
main()
"""
FRAME = re.compile(r'^  File "([^"]+)", line \d+, in ', re.MULTILINE)


async def forge(address: str, seeds: range, forge_on: Callable[[Forger, str], Coroutine[Any, Any, None]]) -> None:
    """Reports forged values on every page, in a session for each seed."""
    for seed in seeds:
        async with connect(f"{address.replace('http', 'ws')}/_stcore/stream", max_size=LARGEST,
                           subprotocols=["streamlit"], origin=address) as socket:  # fmt: skip
            forger = Forger(socket, seed)
            for page in PAGES:
                await forger.open(page)
                await forge_on(forger, page)


def is_ours(traceback: str) -> bool:
    """Whether the error was raised in our code, or where it reads the session state. Streamlit raises others itself."""
    files = FRAME.findall(traceback)
    own = [index for index, file in enumerate(files) if file.startswith((f"{ROOT}/pages", f"{ROOT}/moe_sim"))]
    return bool(own) and all("session_state" in file for file in files[own[-1] + 1 :][:1])


def errors_counted(address: str) -> int:
    found = re.search(r"^moe_errors_total (\d+)", httpx.get(f"{address}/metrics").text, re.MULTILINE)
    assert found
    return int(found.group(1))


def test_no_forged_value_raises_an_error_in_our_code(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with launch(log, starter=("-c", WITHOUT_LIMITS)) as (address, server):
        wait_until_healthy(address, server)
        run_to_end(lambda: forge(address, range(2), Forger.forge_each))
    tracebacks = log.read_text(encoding="utf-8").split("Traceback (most recent call last):")[1:]
    assert tracebacks, "Streamlit itself refuses some of the values"
    assert [traceback[:3000] for traceback in tracebacks if is_ours(traceback)] == []


def test_one_session_adds_three_errors_and_a_few_kilobytes_to_the_log(tmp_path: Path) -> None:
    async def forge_often(forger: Forger, page: str) -> None:
        for _ in range(10):
            await forger.forge_some(page)

    log = tmp_path / "log.txt"
    with launch(log) as (address, server):
        wait_until_healthy(address, server)
        run_to_end(lambda: forge(address, range(1), forge_often))
        assert errors_counted(address) == 3
        honest = Visitor("autoplay=1")
        run_to_end(lambda: honest.visit(address, 4, 1))
        assert honest.errors == 0
    text = log.read_text(encoding="utf-8")
    assert text.count("Traceback") <= 6  # an error raised while another was handled shows both
    assert text.count("further errors of this session are not logged") == 1
    assert len(text) < 50_000


@pytest.mark.parametrize("value", [None, True, "2", [2], {}, b"2", math.nan, object()])
def test_what_is_no_number_becomes_the_default(value: object) -> None:
    assert number_in(value, 0.0, 10.0, 7.0) == 7.0
    assert whole_number_in(value, 0, 10, 7) == 7


def test_a_number_moves_into_the_range() -> None:
    assert [number_in(value, 0.5, 10.0, 7.0) for value in (-1, 0.5, 3, 1e308, math.inf)] == [0.5, 0.5, 3, 10.0, 10.0]
    assert whole_number_in(3.9, 0, 10, 7) == 3


def test_only_an_option_is_chosen() -> None:
    assert one_of("b", ("a", "b"), "a") == "b"
    assert [one_of(value, ("a", "b"), "a") for value in (None, "c", ["b"], {}, 1)] == ["a"] * 5
    assert one_of(True, (0, 1, 2), 2) == 2  # not 1, though they are equal
    assert [text_of(value) for value in ("x", None, 1, ["x"])] == ["x", "", "", ""]
    assert [entry_of(value, "x") for value in ({"x": 1}, {}, None, 5, "x")] == [1, None, None, None, None]


def test_an_action_on_a_run_that_was_just_removed_does_nothing() -> None:
    """A visitor removes run D and, before the page is drawn again, presses another of its buttons."""
    server = Server(Settings(workers=0))
    comparison = ComparisonSession((RunPlan(RunConfig()),) * 4, Thresholds(), server)
    comparison.remove(3)
    run = comparison.run
    comparison.change_now(3, "aux_loss_coef", 0.1)
    comparison.restart_with_change(3, 0, "aux_loss_coef", 0.1)
    comparison.reset_difference(3, "aux_loss_coef")
    comparison.remove(3)
    assert comparison.run is run
    assert not list(comparison.notices)
    server.stop()
