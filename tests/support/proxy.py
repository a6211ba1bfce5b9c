"""A proxy between browser and server that can cut, delay or block the live stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Literal

Fate = Literal["passed on", "cut", "kept waiting", "forbidden", "bad gateway"]
"""What happens to requests for the live stream; all others are passed on."""

ANSWERS = {
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "bad gateway": b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 20\r\n"
    b"Connection: close\r\n\r\n<h1>Bad Gateway</h1>",
}


class Proxy:
    """Forwards HTTP and websockets to a local port, one request per connection. Created by `standing_before`."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.fate: Fate = "passed on"
        self.streams = 0
        """Number of stream requests that received a first message."""
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._streams: set[asyncio.StreamWriter] = set()
        self._changed = threading.Condition()

    def cut(self, seconds: float) -> None:
        """Reset the open streams, and every new one for `seconds`; return once a stream is open again."""
        streams = self.streams
        self._loop.call_soon_threadsafe(self._cut, seconds)
        with self._changed:
            assert self._changed.wait_for(lambda: self.streams > streams, 30), "the stream was not requested again"

    def _cut(self, seconds: float) -> None:
        self.fate = "cut"
        for writer in self._streams:
            writer.transport.abort()
        self._loop.call_later(seconds, setattr, self, "fate", "passed on")

    async def work(self, ready: Future[Callable[[], None]]) -> None:
        """Serve until the function that `ready` receives is called."""
        self._loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            ready.set_result(lambda: self._loop.call_soon_threadsafe(stopped.set) and None)
            await stopped.wait()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            is_stream = head.split(b" ")[1].startswith(b"/live/")
            if is_stream and self.fate in ANSWERS:
                writer.write(ANSWERS[self.fate])
            elif is_stream and self.fate == "kept waiting":
                await reader.read()
            elif not (is_stream and self.fate == "cut"):
                await self._pass_on(head, reader, writer, is_stream)

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_stream: bool
    ) -> None:
        if b"upgrade: websocket" not in head.lower():
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            head = b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        async with self._closing(inner_writer):
            inner_writer.write(head)
            if is_stream:
                self._streams.add(writer)
            there = asyncio.create_task(self._copy(reader, inner_writer, False))
            back = asyncio.create_task(self._copy(inner_reader, writer, is_stream))
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            if not is_stream:
                await back
            there.cancel()
            self._streams.discard(writer)

    @asynccontextmanager
    async def _closing(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        """Close a connection at the end of the block, even after an error."""
        self._open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                yield
        finally:
            self._open.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, is_stream: bool) -> None:
        counted = False
        with suppress(OSError):
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
                if is_stream and not counted and b"data: {" in data:
                    counted = True
                    with self._changed:
                        self.streams += 1
                        self._changed.notify_all()
            if target.can_write_eof():
                target.write_eof()


@contextmanager
def standing_before(target: int) -> Iterator[Proxy]:
    """A proxy on its own port and thread, until the end of the block."""
    proxy, ready = Proxy(target), Future[Callable[[], None]]()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.work(ready)), name="proxy")
    thread.start()
    stop = ready.result(10)
    try:
        yield proxy
    finally:
        stop()
        thread.join()
