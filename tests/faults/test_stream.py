"""The live stream over real connections that break: no step is lost, and no departed viewer is still counted."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun
from moe_sim.live.scheduler import Scheduler
from moe_sim.server.messages import encode
from moe_sim.server.stream import LiveStream
from tests.support.client import Client
from tests.support.inspecting import eventually, small_config
from tests.support.proxy import standing_before
from tests.support.serving import free_port, read_stream


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    scheduler.start()
    yield scheduler
    scheduler.stop()


@pytest.fixture(scope="module")
def port(scheduler: Scheduler) -> Iterator[int]:
    """The port of a server that streams the scheduler's runs."""
    app = Starlette(routes=[Route("/live/{run_id}", LiveStream(scheduler.get, Lectures()).endpoint)])
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    assert eventually(lambda: server.started)
    yield server.config.port
    server.should_exit = True
    thread.join()


@pytest.fixture
def run(scheduler: Scheduler) -> LiveRun:
    return scheduler.add(LiveRun(small_config(), rate=120.0))


def follow(url: str, client: Client, over: threading.Event) -> None:
    """Read a stream as an EventSource does: reconnect with the last id whenever it breaks."""
    last: dict[str, str] = {}
    while not over.is_set():
        try:
            with httpx.stream("GET", url, headers=last, timeout=10) as response:
                for step, message, _ in read_stream(response):
                    client.apply(json.dumps(message))
                    last = {"Last-Event-ID": str(step)}
                    if over.is_set():
                        return
        except httpx.TransportError:
            over.wait(0.02)


def test_a_stream_that_is_cut_twenty_times_delivers_every_step_once(port: int, run: LiveRun) -> None:
    client, over, failures = Client(4), threading.Event(), []

    def watch(url: str) -> None:
        try:
            follow(url, client, over)
        except BaseException as error:
            failures.append(error)

    with standing_before(port) as proxy:
        thread = threading.Thread(target=watch, args=(f"http://127.0.0.1:{proxy.port}/live/{run.id}",))
        thread.start()
        run.train()
        for _ in range(20):
            proxy.cut(0.05)
        run.pause()
        assert eventually(lambda: client.steps == len(run.history) or bool(failures))
        over.set()
        run.train()  # one more message, so that the reader stops
        thread.join()
    assert not failures
    received, whole = client.steps, Client(4)
    whole.apply(encode(run, 0)[1])
    assert received > 40
    for name, column in whole.rows.items():
        width = 4 if name == "smoothed_load" else 1
        assert client.rows[name] == column[: received * width]
    for name, column in whole.coarse.items():
        assert client.coarse[name] == column[: len(client.coarse[name])]


def viewers(run: LiveRun) -> int:
    return run._viewers


def opened_and_closed(port: int, run: LiveRun) -> None:
    """A viewer that connects, receives a message and disconnects abruptly."""
    with closing(socket.create_connection(("127.0.0.1", port))) as viewer:
        viewer.sendall(f"GET /live/{run.id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while b"data: {" not in received:
            received += viewer.recv(1 << 16)


def test_a_hundred_viewers_that_come_and_go_leave_nothing_behind(port: int, run: LiveRun) -> None:
    opened_and_closed(port, run)
    process = psutil.Process()
    assert eventually(lambda: viewers(run) == 0)
    threads, connections = process.num_threads(), len(process.net_connections())
    for _ in range(100):
        opened_and_closed(port, run)
    assert eventually(lambda: viewers(run) == 0)
    assert eventually(lambda: len(process.net_connections()) <= connections)
    assert process.num_threads() <= threads


def test_closing_a_tab_stops_training_within_fifteen_seconds(port: int, run: LiveRun) -> None:
    run.train()
    opened_and_closed(port, run)
    closed = time.monotonic()
    assert eventually(lambda: len(run.history) > 0)
    assert eventually(lambda: not run.watched and not run.queued, seconds=15)
    steps = len(run.history)
    assert time.monotonic() - closed < 15
    assert not eventually(lambda: len(run.history) > steps, seconds=0.3)
    assert run.state == "training", "it continues when a viewer returns"
