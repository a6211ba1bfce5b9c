"""Live runs → server-sent events: who watches gets what is new, and holds a lease meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from moe_sim.config.codec import events_to_text
from moe_sim.history.markers import ONE_MOVE
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.server.messages import ALL_PARTS, encode, encode_comparison, waiting

TICK = 0.05
"""Seconds between two looks at a run."""
INTERVAL = 0.2
"""Seconds between two messages while steps go on; a moved knob or a changed state is sent at the next tick."""
RETRY = 500
"""Milliseconds that a browser waits before it asks again for a stream that was cut off; else it would be seconds."""
HEARTBEAT = 2
"""Seconds between heartbeats, which tell a quiet stream from a dead one."""
UNREAD = 30.0
"""Seconds after which whoever takes nothing of what is sent no longer counts as a viewer."""
VIEWS_EVERY = 3
"""Every third message carries what the second row of views shows instead of the routing map."""
MUCH = 600
"""Shares of experts in a message from which on making it takes so long that the event loop should not wait."""
MOST_ENCODINGS = 32
"""Messages of a run that are kept for other viewers."""

Watched = LiveRun | Comparison

_encodings: WeakKeyDictionary[Watched, dict[tuple[Any, ...], asyncio.Future[tuple[int, str]]]] = WeakKeyDictionary()
"""The newest messages of each run: all viewers who ask for the same thing share one."""


async def _shared_encoding(
    run: Watched, start: int, parts: frozenset[str], version: tuple[Any, ...]
) -> tuple[int, str]:  # fmt: skip
    """`encode`, once for all viewers who ask for the same thing; beside the event loop if there is much to tell."""
    known, key = _encodings.setdefault(run, {}), (start, parts, version)
    if key not in known:
        if len(known) >= MOST_ENCODINGS:
            known.clear()
        known[key] = asyncio.ensure_future(_encoding(run, start, parts))
    return await asyncio.shield(known[key])


async def _encoding(run: Watched, start: int, parts: frozenset[str]) -> tuple[int, str]:
    shares = sum((member.steps_done - start) * member.history.initial_config.num_experts for member in _members(run))
    return await asyncio.to_thread(_encode, run, start, parts) if shares > MUCH else _encode(run, start, parts)


def _encode(run: Watched, start: int, parts: frozenset[str]) -> tuple[int, str]:
    return encode_comparison(run, start) if isinstance(run, Comparison) else encode(run, start, parts)


def _members(run: Watched) -> tuple[LiveRun, ...]:
    return run.members if isinstance(run, Comparison) else (run,)


def _version(run: Watched) -> tuple[Any, ...]:
    """Changes whenever a message would say something new that is worth saying at once."""
    moves = (events_to_text(member.history.events) for member in _members(run))
    return run.state, run.budget, run.rate, run.thresholds, *waiting(run).values(), *moves


async def messages(run: Watched, start: int) -> AsyncIterator[ServerSentEvent]:
    """Watch `run` from step `start` on, for as long as the client listens and the run exists. Holds a lease."""
    with run.lease():
        version: tuple[Any, ...] | None = None
        told, sent_at, count = None, 0.0, 0
        while not run.forgotten:
            now = time.monotonic()
            news = [(member.steps_done, member.probe.step) for member in _members(run)]
            if version != _version(run) or (news != told and now - sent_at >= INTERVAL * 0.9):
                version, told, sent_at = _version(run), news, now
                start, text = await _shared_encoding(run, start, _parts(run, count), (*version, *news))
                count += 1
                yield ServerSentEvent(id=str(start), data=text, retry=RETRY if count == 1 else None)
            await asyncio.sleep(TICK)
    yield ServerSentEvent(event="gone", data="{}")  # else the client would knock again, and again


def _parts(run: Watched, count: int) -> frozenset[str]:
    """What the message after `count` others carries: all at first and when the run stands still, else by turns; where
    markers need the room, the picture."""
    if count == 0 or run.state != "training" or isinstance(run, Comparison):
        return ALL_PARTS
    crowded = bool(run.history.events) and run.history.events[-1].step >= len(run.history) - 2 * ONE_MOVE
    return frozenset({"views"} if count % VIEWS_EVERY == 0 and not crowded else {"picture"})


class _Stream(EventSourceResponse):
    """Ends quietly with a client that reads nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)


def live_endpoint(find: Callable[[str], BackgroundRun | None]) -> Callable[[Request], Any]:
    """The handler of `GET /live/{run_id}`: `find` looks runs up. `Last-Event-ID` or `?from=` resumes."""

    async def endpoint(request: Request) -> Response:
        run = find(request.path_params["run_id"])
        if not isinstance(run, Watched):
            return JSONResponse({"error": "There is no such run (any more)."}, status_code=404)
        last = request.headers.get("last-event-id") or request.query_params.get("from", "0")
        start = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
        return _Stream(
            messages(run, start),
            ping=HEARTBEAT,
            send_timeout=UNREAD,
            ping_message_factory=lambda: ServerSentEvent(event="heartbeat", data="{}"),
            headers={"X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"},
        )

    return endpoint
