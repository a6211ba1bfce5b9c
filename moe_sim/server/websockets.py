"""Refuses websockets that Streamlit would refuse too, but at the expense of other visitors or of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY_VIOLATION, UNSUPPORTED_DATA = 1008, 1003
"""Codes with which a websocket is closed."""


class WebsocketGuard:
    """ASGI middleware. Text frames close a websocket, where Streamlit raises an error; its messages are binary. Foreign
    origins are checked in a thread, one at a time: Streamlit looks up the server's public address on the internet
    meanwhile, which takes seconds where there is none.

    Args:
        app: the application.
        allows: whether an origin other than the host itself may connect; may block.
    """

    def __init__(self, app: ASGIApp, allows: Callable[[str], bool]) -> None:
        self.app, self._allows = app, allows
        self._checking = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "websocket":
            return await self.app(scope, receive, send)
        if not await self._may_connect(Headers(scope=scope)):
            return await send({"type": "websocket.close", "code": POLICY_VIOLATION})

        async def receive_binary() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and message.get("bytes") is None:
                await send({"type": "websocket.close", "code": UNSUPPORTED_DATA})
                return {"type": "websocket.disconnect", "code": UNSUPPORTED_DATA}
            return message

        await self.app(scope, receive_binary, send)

    async def _may_connect(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or origin.partition("://")[2] == headers.get("host"):
            return True
        async with self._checking:
            return await asyncio.to_thread(self._allows, origin)
