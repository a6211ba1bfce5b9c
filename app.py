"""The server: Streamlit's pages, the live stream, slides and metrics. Start it with `streamlit run app.py`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route
from streamlit.web.server.server_util import is_url_from_allowed_origins

from moe_sim.config.errors import InvalidInput
from moe_sim.config.settings import Settings, read_settings
from moe_sim.logs import ProcessLog
from moe_sim.server import http
from moe_sim.server.monitoring import Census, metrics_endpoint
from moe_sim.server.server import Server
from moe_sim.server.slides import slide_endpoint
from moe_sim.server.stream import LiveStream
from moe_sim.server.uploads import UploadLimits
from moe_sim.server.warm_up import warm_up
from moe_sim.server.websockets import WebsocketGuard
from pages.visitor import hosting
from pages.visitor.uploads import Uploads, upload_path

log = logging.getLogger("moe_sim.app")


def settings_or_exit() -> Settings:
    """Reads the settings. An invalid one ends the process with a sentence."""
    try:
        return read_settings()
    except InvalidInput as error:
        sys.exit(str(error))


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Starts the worker processes with the server and stops all training with it."""
    process_log.install()  # again: Streamlit has configured its own logging since
    server.use_workers()
    freeing = asyncio.create_task(uploads.keep_freeing())
    warming_up = asyncio.create_task(asyncio.to_thread(warm_up))
    log.info("The server is up")
    try:
        yield
    finally:
        freeing.cancel()
        await warming_up
        await asyncio.to_thread(server.stop)
        log.info("Training has stopped")


def routes() -> list[Route]:
    """The routes besides Streamlit's own."""
    base, find = hosting.base_path(), server.scheduler.get
    queues = {"runs": lambda: server.scheduler.admission.waiting, "sweeps": lambda: server.sweeps.waiting}
    census = Census(server.scheduler, queues, lambda: process_log.errors)
    return [
        Route(f"{base}/live/{{run_id}}", LiveStream(find, server.lectures).endpoint),
        Route(f"{base}/slide/{{run_id}}/{{name}}", slide_endpoint(find)),
        Route(f"{base}{http.PLOTLY_PATH}", http.plotly_endpoint),
        Route(f"{base}/metrics", metrics_endpoint(census)),
    ]


if st.runtime.exists():
    hosting.run_frame()  # a host executes this file as a script
else:
    settings = settings_or_exit()
    process_log = ProcessLog(settings.log, hosting.session_id)
    process_log.install()
    server = Server(settings)
    hosting.install(server)
    uploads = Uploads()
    headers = http.security_headers(settings.frame_ancestors)
    app = st.App(  # Streamlit finds this call by parsing the source
        "pages/frame.py",
        lifespan=lifespan,
        routes=routes(),
        middleware=[
            Middleware(http.SecurityHeaders, headers=headers),
            Middleware(WebsocketGuard, allows=is_url_from_allowed_origins),
            Middleware(UploadLimits, path=upload_path(), held=uploads.held),
        ],
        exception_handlers={Exception: http.internal_error(headers)},
        on_script_error=hosting.apologise,
    )
