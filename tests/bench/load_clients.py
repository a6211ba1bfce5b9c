"""Load clients: readers of the live stream, and sessions that speak Streamlit's websocket protocol."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

RUN_ID = re.compile(rb"/live/([\w-]{16,})")
LARGEST = 1 << 24


@dataclass
class Viewer:
    """A reader of one live stream."""

    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """The time of each message, and the newest step in it."""
    errors: int = 0
    gaps: int = 0

    async def watch(self, host: str, port: int, run_id: str, seconds: float) -> None:
        """Read the stream as an EventSource does, for `seconds`."""
        try:
            reader, writer = await asyncio.open_connection(host, port, limit=LARGEST)
            writer.write(f"GET /live/{run_id}?from=0 HTTP/1.1\r\nHost: {host}:{port}\r\n"
                         "Accept: text/event-stream\r\n\r\n".encode())  # fmt: skip
            async with asyncio.timeout(seconds):
                await self._read(reader)
        except TimeoutError:
            pass
        except (OSError, ValueError, asyncio.IncompleteReadError):
            self.errors += 1
        finally:
            if "writer" in locals():
                writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        status = await reader.readline()
        if b" 200 " not in status:
            raise ValueError(status)
        known = 0
        while line := await reader.readline():
            if line.startswith(b"data: {") and b'"from":' in line[:120]:
                start, stop = (int(number) for number in re.findall(rb'"(?:from|to)":(\d+)', line[:200])[:2])
                self.gaps += start > known
                known = stop
                self.arrivals.append((time.perf_counter(), stop))
        raise ValueError("the stream ended")


@dataclass
class Visitor:
    """A Streamlit session with its own run, and the stream of that run."""

    query: str = ""
    """The query string in its address bar."""
    session: str = ""
    """The id of its session, once the script has run."""
    page: str = ""
    """The page it opens, such as `compare`; the main page by default."""
    viewer: Viewer = field(default_factory=Viewer)
    first_paint: float = float("nan")
    """Seconds from opening the websocket until the page has its charts."""
    reruns: list[float] = field(default_factory=list)
    errors: int = 0

    async def visit(self, address: str, seconds: float, every: float) -> None:
        """Open the page, watch its run, and rerun the script every `every` seconds."""
        parts = urlsplit(address)
        try:
            async with connect(f"ws://{parts.netloc}/_stcore/stream", max_size=LARGEST,
                               subprotocols=["streamlit"], origin=address) as socket:  # fmt: skip
                start = time.perf_counter()
                run_id = await self.rerun(socket)
                self.first_paint = time.perf_counter() - start
                if run_id is None:
                    self.errors += 1
                    return
                left = start + seconds - time.perf_counter()
                watching = asyncio.create_task(
                    self.viewer.watch(str(parts.hostname), int(parts.port or 80), run_id, left)
                )
                while (left := start + seconds - time.perf_counter()) > every:
                    await asyncio.sleep(every)
                    asked = time.perf_counter()
                    await self.rerun(socket)
                    self.reruns.append(time.perf_counter() - asked)
                await watching
        except Exception:
            self.errors += 1

    async def rerun(self, socket: ClientConnection) -> str | None:
        """Run the script. Returns the id of the run on the page, or None."""
        message = BackMsg()
        message.rerun_script.query_string = self.query
        message.rerun_script.page_name = self.page
        await socket.send(message.SerializeToString())
        found = None
        while True:
            raw = await asyncio.wait_for(socket.recv(), 60)
            assert isinstance(raw, bytes)
            match = RUN_ID.search(raw)
            found = match.group(1).decode() if match else found
            answer = ForwardMsg()
            answer.ParseFromString(raw)
            kind = answer.WhichOneof("type")
            if kind == "delta" and answer.delta.new_element.WhichOneof("type") == "exception":
                self.errors += 1
            if kind == "new_session":
                self.session = answer.new_session.initialize.session_id
            if kind == "page_info_changed":
                self.query = answer.page_info_changed.query_string
            if kind == "script_finished":
                return found
