"""The server: Streamlit's page, the live stream beside it, and Plotly's JavaScript. Start it with
`streamlit run app.py`."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import plotly
import streamlit as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from moe_sim import charts
from moe_sim.export.endpoint import slide_endpoint
from moe_sim.pool import shared_pool
from moe_sim.scheduler import shared_scheduler
from moe_sim.stream import live_endpoint
from moe_sim.sweep.desk import shared_desk

PLOTLY_PATH = f"/plotly-{plotly.__version__}.js"


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Train while the server runs; a thread inside torch must not meet the interpreter's end."""
    scheduler, desk, pool = shared_scheduler(), shared_desk(), shared_pool()
    pool.use()
    warming = asyncio.create_task(asyncio.to_thread(_warm_up))
    try:
        yield
    finally:
        await warming
        await asyncio.to_thread(desk.stop)
        scheduler.stop()
        pool.stop()


def _warm_up() -> None:
    """Do once, while the first visitor's browser still loads, what is slow the first time."""
    charts.load()
    _plotly_js(compressed=True)


@lru_cache(maxsize=2)
def _plotly_js(compressed: bool) -> bytes:
    script = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes()
    return gzip.compress(script, 6) if compressed else script


async def plotly_js(request: Request) -> Response:
    """Plotly.js out of the installed package. Its address carries the version, so it may be cached for ever."""
    compressed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    if compressed:
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    body = await asyncio.to_thread(_plotly_js, compressed)
    return Response(body, media_type="text/javascript", headers=headers)


app = st.App(
    "pages/frame.py",
    lifespan=lifespan,
    routes=[
        Route("/live/{run_id}", live_endpoint(shared_scheduler().get)),
        Route("/slide/{run_id}/{name}", slide_endpoint(shared_scheduler().get)),
        Route(PLOTLY_PATH, plotly_js),
    ],
)
