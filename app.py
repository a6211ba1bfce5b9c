"""The server: Streamlit's page, the live stream beside it, and Plotly's JavaScript. Start it with
`streamlit run app.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import plotly
import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from moe_sim.scheduler import shared_scheduler
from moe_sim.stream import live_endpoint

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Train while the server runs; a thread inside torch must not meet the interpreter's end."""
    scheduler = shared_scheduler()
    try:
        yield
    finally:
        scheduler.stop()


async def plotly_js(_: Request) -> FileResponse:
    """Plotly.js out of the installed package. Its address carries the version, so it may be cached for ever."""
    return FileResponse(
        PLOTLY_JS,
        media_type="text/javascript",
        headers={"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"},
    )


app = st.App(
    "pages/frame.py",
    lifespan=lifespan,
    routes=[
        Route("/live/{run_id}", live_endpoint(shared_scheduler().get)),
        Route(f"/plotly-{plotly.__version__}.js", plotly_js),
    ],
)
