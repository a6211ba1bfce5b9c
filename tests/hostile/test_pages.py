"""The worst links on the real pages give a page and a few sentences; no run can fill the queue for slides."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from moe_sim import RunConfig
from moe_sim.live.live_run import LiveRun
from moe_sim.server import slides as endpoint_module
from moe_sim.server.slides import MOST_WAITING, slide_endpoint
from pages.text import notices
from pages.text.markdown import escape_markdown
from tests.support.apps import opened, settled, turned_to
from tests.support.asynchronous import run_to_end
from tests.support.hostile import KEYS, TEXTS, links
from tests.support.inspecting import small_config

WORST = {
    "every key, the same megabyte": dict.fromkeys(KEYS, "9" * 1_000_000),
    "every key, markup": dict.fromkeys(KEYS, '<img src=x onerror="window.hacked=1">'),
    "every key, nothing": dict.fromkeys(KEYS, ""),
    "every key, nul": dict.fromkeys(KEYS, "\x00"),
    "endless events": dict.fromkeys(("events", "b", "c", "d"), "1:top_k=99;" * 90_000),
    "four of the most expensive runs": {
        "num_experts": "64", "top_k": "8", "batch_tokens": "2048", "expert_hidden_size": "256", "b": "", "c": "",
        "d": "",
    },
    "ten thousand keys": {f"key{number}": "x" for number in range(10_000)},
}  # fmt: skip


@pytest.mark.parametrize("name", WORST)
def test_the_worst_links_open_every_page_that_reads_them(name: str) -> None:
    app = opened(**WORST[name])
    assert len(app.warning) <= notices.MOST + 1
    assert sum(len(box.value) for box in app.warning) < 4_000
    for page in ("compare", "sweep"):
        turned_to(app, page)
        assert len(app.warning) <= 2 * (notices.MOST + 1)


def test_many_links_opened_one_after_another_in_one_browser_all_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.visitor.address.LAG", 0.0)
    app = opened(num_experts="4", batch_tokens="32")
    small = {"batch_tokens": "32", "expert_hidden_size": "4", "autoplay": "0"}
    for number, query in enumerate(links(seed=99, count=24)):
        app.query_params.clear()
        for key, text in (query | small).items():
            app.query_params[key] = text.encode("utf-8", "replace").decode()
        settled(app)
        assert len(app.warning) <= notices.MOST + 1
        if number % 8 == 0:
            turned_to(app, "compare")
            turned_to(app, "live")


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:12]))
def test_text_in_a_notice_is_escaped_so_that_markdown_renders_it_as_is(text: str) -> None:
    escaped = escape_markdown(text)
    assert len(escaped) <= 2 * len(text) + 10
    assert "\n" not in escaped
    # Every character that opens markup has a backslash before it.
    plain = escaped.replace("\\\\", "")
    for mark in "`*[]$<>~#":
        assert plain.count(mark) == plain.count(f"\\{mark}")
    assert not re.search(r":[^\s\N{WORD JOINER}]", plain)
    assert "www." not in plain.lower()


class Counting:
    """Slides that wait for `go_on`, and the number drawn at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.go_on = threading.Event()

    def slide(self, run: Any, name: str, link: str, layer: int | None) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        self.go_on.wait(10)
        self.now -= 1
        return "{}"


def test_slides_are_drawn_one_at_a_time_and_each_runs_queue_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {run.id: run for run in (LiveRun(small_config()), LiveRun(RunConfig(num_experts=2, batch_tokens=32)))}
    mine, other = runs
    drawn = Counting()
    monkeypatch.setattr(endpoint_module, "_slide", drawn.slide)
    app = Starlette(routes=[Route("/slide/{run_id}/{name}", slide_endpoint(runs.get))])

    async def ask() -> tuple[list[int], int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            asked = [
                asyncio.create_task(client.get(f"/slide/{mine}/utilization?link={number}"))
                for number in range(MOST_WAITING + 20)
            ]
            late = asyncio.create_task(client.get(f"/slide/{other}/utilization"))
            refused, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result().status_code for task in refused} == {503}
            drawn.go_on.set()
            return [one.status_code for one in await asyncio.gather(*asked)], (await late).status_code

    statuses, late = run_to_end(ask)
    assert (statuses.count(200), statuses.count(503)) == (1 + MOST_WAITING, 19), "one is drawn, the others wait"
    assert late == 200
    assert drawn.most == 1


def test_requests_one_after_another_never_fill_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    run = LiveRun(small_config())
    monkeypatch.setattr(endpoint_module, "_slide", lambda *args: "{}")
    app = Starlette(routes=[Route("/slide/{run_id}/{name}", slide_endpoint({run.id: run}.get))])

    async def ask() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return [(await client.get(f"/slide/{run.id}/utilization?link={'9' * 5000}")).status_code for _ in range(30)]

    assert run_to_end(ask) == [200] * 30
