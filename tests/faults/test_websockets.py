"""Websockets that do not speak Streamlit's protocol: they are closed, and neither the others nor the log notice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.bench.load_clients import LARGEST
from tests.support.asynchronous import run_to_end
from tests.support.serving import launch, wait_until_healthy

OFFLINE = """
import time
from streamlit import net_util
net_util._make_blocking_http_get = lambda url, timeout: time.sleep(1)
from streamlit.web.cli import main
main()
"""
"""A server without internet: requests end after a second without an answer."""


async def opened_and_sent(address: str, origin: str, frame: str | bytes) -> int:
    """The code with which a websocket is closed: an HTTP status, or that of the protocol."""
    try:
        async with connect(f"{address.replace('http', 'ws')}/_stcore/stream", max_size=LARGEST,
                           subprotocols=["streamlit"], origin=origin) as socket:  # fmt: skip
            await socket.send(frame)
            async for _ in socket:
                pass
            return socket.close_code or 0
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0
    except InvalidStatus as refused:
        return refused.response.status_code


async def slowest_answer(address: str, work: asyncio.Future[list[int]]) -> float:
    """The longest time in seconds that the health check takes while `work` goes on."""
    slowest = 0.0
    async with httpx.AsyncClient(timeout=30) as client:
        while not work.done():
            asked = time.monotonic()
            await client.get(f"{address}/_stcore/health")
            slowest = max(slowest, time.monotonic() - asked)
            await asyncio.sleep(0.05)
    return slowest


def test_foreign_origins_are_refused_without_keeping_others_waiting(tmp_path: Path) -> None:
    async def attack(origin: str) -> tuple[list[int], float]:
        work = asyncio.gather(*(opened_and_sent(address, origin, b"") for _ in range(3)))
        slowest = await slowest_answer(address, work)
        return await work, slowest

    with launch(tmp_path / "log.txt", starter=("-c", OFFLINE)) as (address, server):
        wait_until_healthy(address, server)
        for origin in ("https://evil.example", "null"):
            codes, slowest = run_to_end(lambda origin=origin: attack(origin))
            assert codes == [403] * 3
            assert slowest < 2, "three lookups without an answer took 6 s"


def test_text_frames_close_the_websocket_and_are_no_error_of_the_server(tmp_path: Path) -> None:
    async def send_texts() -> list[int]:
        return [await opened_and_sent(address, address, "hello") for _ in range(5)]

    log = tmp_path / "log.txt"
    with launch(log) as (address, server):
        wait_until_healthy(address, server)
        assert run_to_end(send_texts) == [1003] * 5
        assert "moe_errors_total 0.0" in httpx.get(f"{address}/metrics").text
    assert "Traceback" not in log.read_text(encoding="utf-8")
