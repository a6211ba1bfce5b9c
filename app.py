"""The server: Streamlit's pages, the live stream, slides and metrics. Start it with `streamlit run app.py`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route
from streamlit.web.server.server_util import is_url_from_allowed_origins

from moe_sim.config.errors import InvalidInput
from moe_sim.config.settings import Settings, read_settings
from moe_sim.logs import ProcessLog
from moe_sim.server import http
from moe_sim.server.starting import Starting
from moe_sim.server.uploads import UploadLimits
from moe_sim.server.websockets import WebsocketGuard
from pages.visitor import hosting
from pages.visitor.uploads import Uploads, upload_path

log = logging.getLogger("moe_sim.app")


def settings_or_exit() -> Settings:
    """Reads the settings. An invalid one ends the process with a sentence."""
    try:
        return read_settings(sys.argv[1:])
    except InvalidInput as error:
        sys.exit(str(error))


def load_first_page() -> None:
    """Loads what the first page needs, and draws its figures."""
    from moe_sim.server.warm_up import draw_default_figures
    from pages.dashboard.run_board import figures_in_sight
    from pages.visitor.view import View

    draw_default_figures(figures_in_sight(View().tab))
    import_module("pages.sidebar.run_controls")


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Finishes the start in the background, and stops all training with the server."""
    process_log.install()  # again: Streamlit has configured its own logging since
    background = [asyncio.create_task(work) for work in (uploads.keep_freeing(), finish_start())]
    log.info("The server is up")
    try:
        yield
    finally:
        for task in background:
            task.cancel()
        await asyncio.to_thread(lambda: starting.server().stop())
        log.info("Training has stopped")


async def finish_start() -> None:
    """Compresses Plotly.js, and loads what the first page does not need once it is shown."""
    await asyncio.to_thread(http.plotly_body, compressed=True)
    await asyncio.to_thread(starting.server)
    from moe_sim.server.warm_up import load_pandas_later

    await load_pandas_later()


def routes() -> list[Route]:
    """The routes besides Streamlit's own."""
    base = hosting.base_path()
    paths = (http.LIVE_PATH, http.SLIDE_PATH, http.PROMPT_PATH, http.METRICS_PATH)
    own = [Route(f"{base}{path}", starting.endpoint(path)) for path in paths]
    return [*own, Route(f"{base}{http.PLOTLY_PATH}", http.plotly_endpoint)]


if st.runtime.exists():
    hosting.run_frame()  # a host executes this file as a script
else:
    settings = settings_or_exit()
    process_log = ProcessLog(settings.log, hosting.session_id)
    process_log.install()
    starting = Starting(settings, lambda: process_log.errors, load_first_page)
    hosting.install(starting.server)
    uploads = Uploads()
    headers = http.security_headers(settings.frame_ancestors)
    app = st.App(  # Streamlit finds this call by parsing the source
        "pages/frame.py",
        lifespan=lifespan,
        routes=routes(),
        middleware=[
            Middleware(http.SecurityHeaders, headers=headers),
            Middleware(WebsocketGuard, allows=is_url_from_allowed_origins),
            Middleware(UploadLimits, path=upload_path(), held=uploads.held, stored=uploads.move_to_disk),
        ],
        exception_handlers={Exception: http.internal_error(headers)},
        on_script_error=hosting.apologise,
    )
