"""A worker process is killed under its runs: each says that it is computed again, and then continues."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.bench.load import WARM
from tests.bench.load_clients import LARGEST, Visitor
from tests.support.asynchronous import run_to_end
from tests.support.serving import launch, read_stream, wait_until_healthy, workers_of

BEFORE = 400
"""Steps before the processes are killed: to compute them again takes several messages' time on a fast machine too."""
LOADED = 120 << 20
"""Bytes of a process that has loaded torch, at least; 10 MB before."""


def watched_while_killed(address: str, server: int, run_id: str) -> list[dict[str, Any]]:
    """The messages of a run from step `BEFORE`, when all worker processes are killed, until 30 steps later."""
    messages, deadline = [], time.monotonic() + 60
    with httpx.stream("GET", f"{address}/live/{run_id}", timeout=30) as response:
        for step, message, _ in read_stream(response):
            assert time.monotonic() < deadline, "it stands still"
            if messages:
                messages.append(message | {"at": time.monotonic()})
                if step > messages[0]["to"] + 30:
                    return messages
            elif step >= BEFORE:
                for worker in workers_of(server):
                    worker.kill()
                messages.append(message | {"at": time.monotonic()})
    raise AssertionError("the stream ended")


def wait_until_loaded(server: int) -> None:
    """Waits until the worker processes have loaded torch: before that, the server itself computes the runs."""
    deadline = time.monotonic() + 60
    while not (workers := workers_of(server)) or min(one.memory_info().rss for one in workers) < LOADED:
        assert time.monotonic() < deadline, "no worker process has loaded torch"
        time.sleep(0.1)
    time.sleep(1)  # until it has said so


def test_runs_of_a_killed_process_say_within_a_second_that_they_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOE_SIM_WORKERS", "1")

    async def visit(page: str) -> list[dict[str, Any]]:
        stream = f"{address.replace('http', 'ws')}/_stcore/stream"
        async with connect(stream, max_size=LARGEST, subprotocols=["streamlit"], origin=address) as socket:
            visitor = Visitor("autoplay=1&b=0:aux_loss_coef=0.1" if page else "autoplay=1", page=page.removeprefix("/"))
            run_id = await visitor.rerun(socket)
            assert run_id is not None
            return await asyncio.to_thread(watched_while_killed, address, server.pid, run_id)

    with launch(tmp_path / "log.txt") as (address, server):
        wait_until_healthy(address, server)
        run_to_end(lambda: Visitor("autoplay=1&seed=1").visit(address, WARM, 2 * WARM))
        for page in ("", "/compare"):
            wait_until_loaded(server.pid)
            killed, *later = run_to_end(lambda page=page: visit(page))
            said = [message for message in later if "recomputed" in message]
            assert said, "it stood still without a word"
            assert said[0]["at"] - killed["at"] < 1
            assert len({message["recomputed"] for message in said}) > 1, "the number does not grow"
            assert "recomputed" not in later[-1]
    assert "Traceback" not in (tmp_path / "log.txt").read_text(encoding="utf-8")
