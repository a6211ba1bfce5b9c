"""Creates the server in a thread: to load torch takes seconds, in which a first visitor's browser loads the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from moe_sim.config.settings import Settings

if TYPE_CHECKING:
    from moe_sim.server.endpoints import Endpoint
    from moe_sim.server.server import Server


class Starting:
    """A server that may still be in the making.

    Args:
        settings: the host's settings.
        errors: the number of errors logged so far.
        prepare: called in the thread before anyone gets the server.
    """

    def __init__(self, settings: Settings, errors: Callable[[], int], prepare: Callable[[], None]) -> None:
        self._settings, self._errors, self._prepare = settings, errors, prepare
        thread = ThreadPoolExecutor(1, thread_name_prefix="start")
        self._made: Future[tuple[Server, dict[str, Endpoint]]] = thread.submit(self._make)
        thread.shutdown(wait=False)

    def server(self) -> Server:
        """Returns the server; waits until it is there."""
        return self._made.result()[0]

    def endpoint(self, path: str) -> Endpoint:
        """Returns the handler of one of `endpoints`' paths. A request that comes early waits."""

        async def handle(request: Request) -> Response:
            _, endpoints = await asyncio.shield(asyncio.wrap_future(self._made))
            return await endpoints[path](request)

        return handle

    def _make(self) -> tuple[Server, dict[str, Endpoint]]:
        from moe_sim.server.endpoints import endpoints
        from moe_sim.server.server import Server

        server = Server(self._settings)
        server.use_workers()
        self._prepare()
        return server, endpoints(server, self._errors)
