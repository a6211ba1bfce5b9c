"""The server: Streamlit's page, the live stream, and what a host asks for. Start it with `streamlit run app.py`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route

from moe_sim import logs
from moe_sim.live.runners.pool import shared_pool
from moe_sim.live.scheduler import shared_scheduler
from moe_sim.server import http
from moe_sim.server.monitoring import Census, metrics_endpoint
from moe_sim.server.slides import slide_endpoint
from moe_sim.server.stream import live_endpoint
from moe_sim.server.warm_up import warm_up
from moe_sim.sweep.queue import shared_sweep_queue
from pages.visitor import hosting

log = logging.getLogger("moe_sim.app")


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Train while the server runs; a thread inside torch must not meet the interpreter's end."""
    logs.set_up()  # once more: Streamlit has set up its own since
    scheduler, queue, pool = shared_scheduler(), shared_sweep_queue(), shared_pool()
    pool.use()
    warming = asyncio.create_task(asyncio.to_thread(warm_up))
    log.info("The server is up")
    try:
        yield
    finally:
        await warming
        await asyncio.to_thread(queue.stop)
        scheduler.stop()
        pool.stop()
        log.info("Training has stopped")


def routes() -> list[Route]:
    """What the server answers beside Streamlit's page."""
    scheduler, base = shared_scheduler(), hosting.base_path()
    waiting = {"runs": lambda: scheduler.admission.waiting, "sweeps": lambda: shared_sweep_queue().waiting}
    census = Census(scheduler, waiting, logs.errors_logged)
    return [
        Route(f"{base}/live/{{run_id}}", live_endpoint(scheduler.get)),
        Route(f"{base}/slide/{{run_id}}/{{name}}", slide_endpoint(scheduler.get)),
        Route(f"{base}{http.PLOTLY_PATH}", http.plotly_endpoint),
        Route(f"{base}/metrics", metrics_endpoint(census)),
    ]


if st.runtime.exists():
    hosting.run_frame()  # a host executes this file as a script
else:
    logs.set_up()
    http.security_headers()  # what is wrong with it is said now
    app = st.App(
        "pages/frame.py",
        lifespan=lifespan,
        routes=routes(),
        middleware=[Middleware(http.SecurityHeaders)],
        exception_handlers={Exception: http.internal_error},
        on_script_error=hosting.apologise,
    )
