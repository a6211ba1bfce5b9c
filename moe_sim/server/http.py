"""Plotly's JavaScript, security headers, and the response to an internal error."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from pathlib import Path

import plotly
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIVE_PATH, SLIDE_PATH, METRICS_PATH = "/live/{run_id}", "/slide/{run_id}/{name}", "/metrics"
PROMPT_PATH = "/prompt/{run_id}"
PLOTLY_PATH = f"/plotly-{plotly.__version__}.js"


def plotly_script() -> str:
    """Plotly.js from the installed package. It defines `window.Plotly`."""
    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@lru_cache(maxsize=2)
def plotly_body(compressed: bool) -> bytes:
    """Plotly.js as bytes, cached."""
    script = plotly_script().encode()
    return gzip.compress(script, 6) if compressed else script


async def plotly_endpoint(request: Request) -> Response:
    """Handles `GET /plotly-….js`. The address carries the version, so it may be cached forever."""
    compressed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if compressed:
        headers["Content-Encoding"] = "gzip"
    body = await asyncio.to_thread(plotly_body, compressed)
    return Response(body, media_type="text/javascript", headers=headers)


def security_headers(frame_ancestors: str) -> dict[str, str]:
    """Returns the headers of every response.

    Args:
        frame_ancestors: the sites that may embed the page, as a Content-Security-Policy source list.
    """
    return {
        "X-Content-Type-Options": "nosniff",
        # An address may hold a lecture's id: do not send it to other sites.
        "Referrer-Policy": "same-origin",
        "Content-Security-Policy": f"frame-ancestors {frame_ancestors}; object-src 'none'; base-uri 'self'",
    }


class SecurityHeaders:
    """ASGI middleware that adds headers to every response, Streamlit's own included. Streams and websockets pass
    through unbuffered."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self.app, self._headers = app, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def internal_error(headers: Mapping[str, str]) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The handler of an endpoint's exception: one sentence for the visitor, with these headers.

    Starlette raises the exception again outside of all middleware, so the server logs the traceback.
    """

    async def handle(request: Request, error: Exception) -> Response:
        sentence = "Something went wrong. The reason is in the server's log."
        return JSONResponse({"error": sentence}, status_code=500, headers=dict(headers))

    return handle
