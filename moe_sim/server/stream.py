"""Live runs → server-sent events. Each viewer holds a lease while the stream is open."""

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
from moe_sim.history.markers import SAME_CHANGE
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.comparison import Comparison
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun
from moe_sim.server.messages import ALL_PARTS, encode, encode_comparison, waiting

TICK = 0.05
"""Seconds between checks of a run for updates."""
DESERTED_TICK = 1.0
"""The same for a run whose sessions are gone, so that it does not train."""
INTERVAL = 0.2
"""Seconds between messages during training; a changed knob or state is sent at the next tick."""
RETRY = 500
"""Milliseconds after which a browser reconnects to a stream that was cut off; the default would be seconds."""
HEARTBEAT = 2
"""Seconds between heartbeats, which tell a quiet stream from a dead one."""
SEND_TIMEOUT = 30.0
"""Seconds after which a client that reads nothing no longer counts as a viewer."""
VIEWS_EVERY = 3
"""Every third message carries the data of the tabs instead of the routing map."""
LONG_MESSAGE = 600
"""Expert shares (steps × experts) in a message above which encoding it would block the event loop."""
MOST_ENCODINGS = 32
"""Messages of a run that are cached for other viewers."""

Watched = LiveRun | Comparison


class LiveStream:
    """Streams runs to their viewers. Viewers who need the same message share one.

    Args:
        find: looks a run up by its id.
        lectures: offered to viewers whose run waits in the queue.
    """

    def __init__(self, find: Callable[[str], BackgroundRun | None], lectures: Lectures) -> None:
        self._find, self._lectures = find, lectures
        self._encodings: WeakKeyDictionary[Watched, dict[tuple[Any, ...], asyncio.Future[tuple[int, str]]]]
        self._encodings = WeakKeyDictionary()
        """The newest messages of each run."""

    async def endpoint(self, request: Request) -> Response:
        """Handles `GET /live/{run_id}`. `Last-Event-ID` or `?from=` resumes after that step; `?layer=` is
        the layer to look at, 1 for the first, otherwise all.

        If there is no such run, an event stream says `gone`, because a run may be replaced while a page opens its
        stream; other clients get a 404.
        """
        run = self._find(request.path_params["run_id"])
        if not isinstance(run, Watched):
            if request.method == "GET" and "text/event-stream" in request.headers.get("accept", ""):
                return _Response(_gone())
            return JSONResponse({"error": "This run does not exist or has ended."}, status_code=404)
        last = request.headers.get("last-event-id") or request.query_params.get("from", "0")
        return _Response(
            self.messages(run, whole_number(last) or 0, layer_in(request)),
            ping=HEARTBEAT,
            send_timeout=SEND_TIMEOUT,
            ping_message_factory=lambda: ServerSentEvent(event="heartbeat", data="{}"),
            headers={"X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"},
        )

    async def messages(self, run: Watched, start: int, layer: int | None = None) -> AsyncIterator[ServerSentEvent]:
        """Watches one or all layers of `run` from step `start` on while the client listens and the run exists. Holds a
        lease."""
        with run.lease():
            version: tuple[Any, ...] | None = None
            sent, sent_at, count = None, 0.0, 0
            while not run.forgotten:
                now = time.monotonic()
                news = [(member.steps_done, member.probe.step, member.recomputed) for member in _members(run)]
                if version != self._version(run) or (news != sent and now - sent_at >= INTERVAL * 0.9):
                    version, sent, sent_at = self._version(run), news, now
                    start, text = await self._shared_encoding(run, start, _parts(run, count), layer, (*version, *news))
                    count += 1
                    yield ServerSentEvent(id=str(start), data=text, retry=RETRY if count == 1 else None)
                await asyncio.sleep(DESERTED_TICK if run.deserted else TICK)
        async for event in _gone():
            yield event

    def _version(self, run: Watched) -> tuple[Any, ...]:
        """A value that changes whenever something must be sent at once."""
        changes = (events_to_text(member.history.events) for member in _members(run))
        return run.state, run.budget, run.rate, run.thresholds, *waiting(run, self._lectures).values(), *changes

    async def _shared_encoding(
        self, run: Watched, start: int, parts: frozenset[str], layer: int | None, version: tuple[Any, ...]
    ) -> tuple[int, str]:
        """`encode`, once for all viewers who need the same message."""
        known, key = self._encodings.setdefault(run, {}), (start, parts, layer, version)
        if key not in known:
            if len(known) >= MOST_ENCODINGS:
                known.clear()
            known[key] = asyncio.ensure_future(self._encoding(run, start, parts, layer))
        return await asyncio.shield(known[key])

    async def _encoding(self, run: Watched, start: int, parts: frozenset[str], layer: int | None) -> tuple[int, str]:
        """Encodes a message; a long one in a thread, so that it does not block the event loop."""
        starts = ((member.history.initial_config, member.steps_done - start) for member in _members(run))
        shares = sum(config.num_layers * config.num_experts * steps for config, steps in starts)
        if shares > LONG_MESSAGE:
            return await asyncio.to_thread(self._encode, run, start, parts, layer)
        return self._encode(run, start, parts, layer)

    def _encode(self, run: Watched, start: int, parts: frozenset[str], layer: int | None) -> tuple[int, str]:
        if isinstance(run, Comparison):
            return encode_comparison(run, start, self._lectures, layer)
        return encode(run, start, parts, self._lectures, layer)


def whole_number(text: str) -> int | None:
    """The number that a client has sent; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def layer_in(request: Request) -> int | None:
    """The layer that a client asks for, which counts from 1: as an index from 0, or None for all."""
    number = whole_number(request.query_params.get("layer", ""))
    return number - 1 if number else None


async def _gone() -> AsyncIterator[ServerSentEvent]:
    """Says that the run does not exist, or not any more; else the client would keep reconnecting."""
    yield ServerSentEvent(event="gone", data="{}")


def _members(run: Watched) -> tuple[LiveRun, ...]:
    return run.members if isinstance(run, Comparison) else (run,)


def _parts(run: Watched, count: int) -> frozenset[str]:
    """The parts of message number `count`: all in the first message and when the run is not training, else one part in
    turn. After a recent change always the picture, because the markers need the room of the views."""
    if count == 0 or run.state != "training" or isinstance(run, Comparison):
        return ALL_PARTS
    crowded = bool(run.history.events) and run.history.events[-1].step >= len(run.history) - 2 * SAME_CHANGE
    return frozenset({"views"} if count % VIEWS_EVERY == 0 and not crowded else {"picture"})


class _Response(EventSourceResponse):
    """Ends without an error when the client reads nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)
