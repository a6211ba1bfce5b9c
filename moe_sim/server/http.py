"""What the server answers beside Streamlit's page: Plotly's JavaScript, headers on every response, a sentence when
something fails."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from functools import lru_cache
from pathlib import Path

import plotly
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLOTLY_PATH = f"/plotly-{plotly.__version__}.js"
FRAME_ANCESTORS = "MOE_SIM_FRAME_ANCESTORS"
"""Which sites may show the page in a frame: a source list as Content-Security-Policy has it."""
ANY_SITE = "* file:"
"""Also a slide that was opened from a disk."""


def plotly_script() -> str:
    """Plotly.js out of the installed package. It puts `Plotly` into the window."""
    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@lru_cache(maxsize=2)
def plotly_body(compressed: bool) -> bytes:
    """The same as bytes, made once."""
    script = plotly_script().encode()
    return gzip.compress(script, 6) if compressed else script


async def plotly_endpoint(request: Request) -> Response:
    """The handler of `GET /plotly-….js`. The address carries the version, so it may be cached for ever."""
    compressed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if compressed:
        headers["Content-Encoding"] = "gzip"
    body = await asyncio.to_thread(plotly_body, compressed)
    return Response(body, media_type="text/javascript", headers=headers)


@lru_cache(maxsize=1)
def security_headers() -> dict[str, str]:
    """What every response says, for this process.

    Raises:
        ValueError: with a sentence, if the environment holds something that is not a source list.
    """
    ancestors = os.environ.get(FRAME_ANCESTORS, ANY_SITE)
    if not re.fullmatch(r"[\x21-\x2b\x2d-\x3a\x3c-\x7e]+( [\x21-\x2b\x2d-\x3a\x3c-\x7e]+)*", ancestors):
        raise ValueError(f"{FRAME_ANCESTORS} must be addresses with spaces between them, not {ancestors[:40]!r}.")
    return {
        "X-Content-Type-Options": "nosniff",
        # An address may hold the id of a lecture: links to other sites do not tell it.
        "Referrer-Policy": "same-origin",
        "Content-Security-Policy": f"frame-ancestors {ancestors}; object-src 'none'; base-uri 'self'",
    }


class SecurityHeaders:
    """ASGI middleware that puts `security_headers` on every response, Streamlit's own included. Neither streams nor
    websockets are held up."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, with headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in security_headers().items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def internal_error(request: Request, error: Exception) -> Response:
    """What a visitor's browser gets when an endpoint failed. Whoever serves logs the traceback: Starlette raises it
    once more after this, outside of all middleware."""
    sentence = "Something went wrong here. Whoever hosts this page finds the reason in the log."
    return JSONResponse({"error": sentence}, status_code=500, headers=security_headers())
