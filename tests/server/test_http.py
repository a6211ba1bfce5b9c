"""The headers of every response, and the response to an internal error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from moe_sim.server.http import PLOTLY_PATH, SecurityHeaders, internal_error, security_headers
from tests.support.asynchronous import run_to_end
from tests.support.serving import ROOT, launch, wait_until_healthy

SCRIPT = str(ROOT / "app.py")
HEADERS = security_headers("* file:")
SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "content-security-policy": "frame-ancestors * file:; object-src 'none'; base-uri 'self'",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server under a base path, with JSON logs; every line of its log must be JSON."""
    log = tmp_path_factory.mktemp("hosting") / "log.txt"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MOE_SIM_LOG", "json")
        options = ["--server.baseUrlPath", "lab/moe", "--logger.hideWelcomeMessage", "true"]
        with launch(log, *options) as (address, process):
            wait_until_healthy(f"{address}/lab/moe", process)
            yield f"{address}/lab/moe"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line["message"] for line in lines] == ["The server is up", "Training has stopped"]


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("", 200, "text/html"),
        ("/compare", 200, "text/html"),
        ("/_stcore/health", 200, "text/plain"),
        ("/_stcore/host-config", 200, "application/json"),
        ("/live/unknown", 404, "application/json"),
        ("/slide/unknown/imbalance", 404, "application/json"),
        ("/metrics", 200, "text/plain"),
        (PLOTLY_PATH, 200, "text/javascript"),
        ("/media/unknown.js", 404, ""),
    ],
)
def test_every_response_has_a_type_forbids_sniffing_and_may_be_embedded(
    server: str, path: str, status: int, kind: str
) -> None:
    answer = httpx.get(f"{server}{path}", follow_redirects=True)
    assert answer.status_code == status
    assert answer.headers.get("content-type", "").startswith(kind)
    assert {name: answer.headers[name] for name in SAFE} == SAFE
    assert "x-frame-options" not in answer.headers


def application(**options: Any) -> Starlette:
    """An application with our middleware and a few endpoints."""

    async def failing(request: Request) -> Response:
        raise RuntimeError("a secret of the host")

    return Starlette(
        routes=[Route("/failing", failing), *options.get("routes", [])],
        middleware=[Middleware(SecurityHeaders, headers=HEADERS)],
        exception_handlers={Exception: internal_error(HEADERS)},
    )


def test_an_internal_error_gives_one_sentence_with_the_same_headers() -> None:
    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(application(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/failing")

    answer = run_to_end(get)
    assert answer.status_code == 500
    assert answer.json() == {"error": "Something went wrong. The reason is in the server's log."}
    assert {name: answer.headers[name] for name in SAFE} == SAFE


def test_an_internal_error_reaches_the_servers_log() -> None:
    async def get() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://here") as client:
            await client.get("/failing")

    with pytest.raises(RuntimeError, match="a secret of the host"):
        run_to_end(get)


def test_the_middleware_passes_streams_through_unbuffered() -> None:
    async def talk() -> list[bytes]:
        heard = asyncio.Event()
        pieces: list[bytes] = []

        async def words() -> AsyncIterator[bytes]:
            yield b"first"
            await heard.wait()
            yield b"second"

        async def endpoint(request: Request) -> Response:
            return StreamingResponse(words())

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        async def send(message: Any) -> None:
            if message.get("body"):
                pieces.append(message["body"])
                heard.set()

        scope = {"type": "http", "method": "GET", "path": "/words", "headers": [], "query_string": b""}
        async with asyncio.timeout(10):
            await application(routes=[Route("/words", endpoint)])(scope, receive, send)
        return pieces

    assert run_to_end(talk) == [b"first", b"second"]


@pytest.mark.parametrize(
    "sources", ["'none'", "'self' https://moodle.university.example https://*.school.example:8443"]
)
def test_the_host_decides_which_sites_may_embed_the_page(sources: str) -> None:
    assert security_headers(sources)["Content-Security-Policy"].split(";")[0] == f"frame-ancestors {sources}"
