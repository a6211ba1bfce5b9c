"""Slides over real connections: in turn over runs, only what was asked for, and nothing for clients who have left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from moe_sim.charts import compare, page
from moe_sim.config.run_plan import RunPlan
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.server import slides
from tests.support.asynchronous import run_to_end
from tests.support.inspecting import eventually, small_config
from tests.support.serving import free_port

BUSY_RUNS = 4


class Drawing:
    """Stands in for drawing: waits for permission, and records whose slides were drawn."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.begun = threading.Event()
        self.permits = threading.Semaphore(0)

    def slide(self, run: BackgroundRun, name: str, link: str, layer: int | None) -> str:
        self.begun.set()
        self.permits.acquire(timeout=20)
        self.drawn.append(run.id)
        return "{}"


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Drawing:
    drawing = Drawing()
    monkeypatch.setattr(slides, "_slide", drawing.slide)
    return drawing


@pytest.fixture(scope="module")
def runs() -> dict[str, BackgroundRun]:
    """The runs of a busy visitor, and one of another's, the last."""
    return {run.id: run for run in (LiveRun(small_config(seed=seed)) for seed in range(BUSY_RUNS + 1))}


@contextmanager
def serving_slides(runs: dict[str, BackgroundRun]) -> Iterator[tuple[str, int]]:
    """A real HTTP server of the endpoint; yields host and port."""
    app = Starlette(routes=[Route("/slide/{run_id}/{name}", slides.slide_endpoint(runs.get))])
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert eventually(lambda: server.started)
        yield "127.0.0.1", port
    finally:
        server.should_exit = True
        thread.join()


async def ask(host: str, port: int, run_id: str, link: object = "") -> tuple[asyncio.StreamReader, ...]:
    """Sends a request over a connection of its own. Equal ones get one drawing."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /slide/{run_id}/imbalance?link={link} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    await writer.drain()
    return reader, writer  # type: ignore[return-value]


def test_another_visitors_slide_waits_for_at_most_one_of_each_busy_run(
    runs: dict[str, BackgroundRun], drawing: Drawing
) -> None:
    *busy, other = runs

    async def story(host: str, port: int) -> None:
        many = [await ask(host, port, run_id, link) for run_id in busy for link in range(slides.MOST_WAITING)]
        assert await asyncio.to_thread(drawing.begun.wait, 10)
        await asyncio.sleep(0.3)  # all of them wait
        reader, writer = await ask(host, port, other)
        await asyncio.sleep(0.3)
        drawing.permits.release(1000)
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 20)
        for _, one in (*many, (reader, writer)):
            one.close()  # type: ignore[attr-defined]

    with serving_slides(runs) as (host, port):
        run_to_end(lambda: story(host, port))
    assert drawing.drawn.index(other) <= BUSY_RUNS


def test_a_request_whose_client_has_left_is_not_drawn(runs: dict[str, BackgroundRun], drawing: Drawing) -> None:
    *busy, other = runs

    async def story(host: str, port: int) -> None:
        many = [await ask(host, port, run_id, link) for run_id in busy for link in range(slides.MOST_WAITING)]
        assert await asyncio.to_thread(drawing.begun.wait, 10)
        await asyncio.sleep(0.3)
        for _, writer in many:
            writer.transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
        reader, writer = await ask(host, port, other)
        drawing.permits.release(1000)
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 20)
        writer.close()  # type: ignore[attr-defined]

    with serving_slides(runs) as (host, port):
        run_to_end(lambda: story(host, port))
    assert drawing.drawn[1:] == [other], "the first one was being drawn when its client left"


def test_a_class_that_asks_for_one_chart_gets_one_drawing(runs: dict[str, BackgroundRun], drawing: Drawing) -> None:
    first, second, *_ = runs

    async def story(host: str, port: int) -> None:
        busy = await ask(host, port, first)
        assert await asyncio.to_thread(drawing.begun.wait, 10)
        many = [await ask(host, port, second) for _ in range(40)]
        await asyncio.sleep(0.3)
        for _, writer in many[:39:2]:  # half of them leave, also the one that asked first
            writer.transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0.3)
        drawing.permits.release(1000)
        for reader, _ in (busy, *many[1::2]):
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 20)
        for _, writer in (busy, *many):
            writer.close()  # type: ignore[attr-defined]

    with serving_slides(runs) as (host, port):
        run_to_end(lambda: story(host, port))
    assert drawing.drawn == [first, second]


def test_an_unknown_name_gives_404_at_once_and_nothing_is_drawn(
    runs: dict[str, BackgroundRun], drawing: Drawing
) -> None:
    comparison = Comparison([RunPlan(small_config())] * 2)
    everything = runs | {comparison.id: comparison}
    *busy, other = runs

    async def story(host: str, port: int) -> None:
        first, writer = await ask(host, port, busy[0])
        assert await asyncio.to_thread(drawing.begun.wait, 10)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            for run_id in (other, comparison.id):
                response = await client.get(f"/slide/{run_id}/nosuch", timeout=5)
                assert (response.status_code, response.json()) == (404, {"error": slides.NO_CHART})
        drawing.permits.release(1000)
        assert b" 200 " in await first.readline()
        writer.close()  # type: ignore[attr-defined]

    with serving_slides(everything) as (host, port):
        run_to_end(lambda: story(host, port))
    assert drawing.drawn == [busy[0]]


def test_only_the_figure_that_is_asked_for_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def drawer(name: str):  # type: ignore[no-untyped-def]
        original = page.PAGE_FIGURES[name]
        return lambda *given: drawn.append(name) or original(*given)

    monkeypatch.setattr(compare, "task_loss", lambda *given: drawn.append("task_loss"))
    for name in list(page.PAGE_FIGURES):
        monkeypatch.setitem(page.PAGE_FIGURES, name, drawer(name))
    run = LiveRun(small_config())
    assert slides._slide(run, "imbalance", "", None) is not None
    assert drawn == ["imbalance"]
    assert slides._slide(Comparison([RunPlan(small_config())] * 2), "compare_imbalance", "", None) is not None
    assert drawn == ["imbalance"]
