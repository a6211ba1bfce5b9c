"""Limits what visitors' uploads may hold: each session's, and all together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEGABYTE = 1 << 20
MOST_OF_A_SESSION = 80 * MEGABYTE
MOST_OF_ALL = 120 * MEGABYTE
LONGEST = 300.0
"""Seconds that an upload may take. A client that stops sending holds what it has sent."""
RETRY_AFTER = 60
"""Seconds after which a client may try again if all sessions together hold too much."""


class _RefusedError(Exception):
    """The upload does not fit or takes too long. Carries the response."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.response = JSONResponse({"error": sentence}, status_code=status, headers=headers)


class UploadLimits:
    """ASGI middleware that refuses uploads beyond `MOST_OF_A_SESSION` (413) and `MOST_OF_ALL` (503). It looks at the
    declared length before the body is read, and counts the bytes while they arrive, since a length may be missing. An
    upload that takes longer than `LONGEST` ends (408).

    Args:
        app: the application, which stores what it reads.
        path: the path of uploads, up to `/SESSION/FILE`.
        held: returns the bytes stored at the moment, by session.
        stored: is called with the session after each upload.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        held: Callable[[], Mapping[str, int]],
        stored: Callable[[str], Awaitable[None]],
    ) -> None:
        self.app, self._path, self._held, self._stored = app, f"{path}/", held, stored
        self._arrived: Counter[str] = Counter()
        """Bytes of the uploads in progress, by session. Only the event loop's thread touches it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http" or scope["method"] != "PUT" or not scope["path"].startswith(self._path):
            return await self.app(scope, receive, send)
        session = scope["path"].removeprefix(self._path).partition("/")[0]
        arrived, deadline = 0, asyncio.get_running_loop().time() + LONGEST

        async def receive_counted() -> Message:
            nonlocal arrived
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise _RefusedError(408, f"An upload may take {LONGEST:.0f} seconds.") from None
            count = len(message.get("body", b""))
            self._check(session, count)
            arrived += count
            self._arrived[session] += count
            return message

        try:
            self._check(session, _declared_length(scope))
            await self.app(scope, receive_counted, send)
        except _RefusedError as refused:
            await refused.response(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody to answer, and no error of the server
        finally:
            self._arrived[session] -= arrived
            if not self._arrived[session]:
                del self._arrived[session]
        await self._stored(session)

    def _check(self, session: str, count: int) -> None:
        """Raises `_RefusedError` if there is no room for `count` more bytes of a session."""
        held = self._held()
        if held.get(session, 0) + self._arrived[session] + count > MOST_OF_A_SESSION:
            raise _RefusedError(413, f"Your uploads together may have {MOST_OF_A_SESSION // MEGABYTE} MB.")
        if sum(held.values()) + self._arrived.total() + count > MOST_OF_ALL:
            sentence = "There is no room for more uploads now. Try again in a minute."
            raise _RefusedError(503, sentence, {"Retry-After": str(RETRY_AFTER)})


def _declared_length(scope: Scope) -> int:
    """The length that the client declares; 0 if it declares none, or nonsense, which the application refuses."""
    headers: dict[bytes, Any] = dict(scope["headers"])
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() else 0
