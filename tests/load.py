"""What a small server bears: `python -m tests.load` starts a real one, sends it viewers and sessions, prints a table.

Viewers read the live stream; sessions speak Streamlit's websocket protocol as a browser does: a page, a run that trains
by itself, its stream, and reruns. The clients share the machine with the server. Leave it alone meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from tests.serving import launch, wait_until_healthy

RUN_ID = re.compile(rb"/live/([\w-]{16,})")
LARGEST = 1 << 24


@dataclass
class Viewer:
    """A reader of one live stream."""

    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """When which step was the newest."""
    errors: int = 0
    gaps: int = 0

    async def watch(self, host: str, port: int, run_id: str, seconds: float) -> None:
        """Read for so many seconds, as an EventSource does."""
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
    """A session of Streamlit with a run of its own, and the stream of that run."""

    query: str = ""
    """What stands in its address bar."""
    viewer: Viewer = field(default_factory=Viewer)
    first_paint: float = float("nan")
    """Seconds from opening the websocket until the page has its charts."""
    reruns: list[float] = field(default_factory=list)
    errors: int = 0

    async def visit(self, address: str, seconds: float, every: float) -> None:
        """Open the page, watch its run, and have the script run again every so often."""
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
        """Run the script; returns the id of the run that the page shows."""
        message = BackMsg()
        message.rerun_script.query_string = self.query
        await socket.send(message.SerializeToString())
        found = None
        while True:
            raw = await asyncio.wait_for(socket.recv(), 60)
            assert isinstance(raw, bytes)
            match = RUN_ID.search(raw)
            found = match.group(1).decode() if match else found
            told = ForwardMsg()
            told.ParseFromString(raw)
            kind = told.WhichOneof("type")
            if kind == "delta" and told.delta.new_element.WhichOneof("type") == "exception":
                self.errors += 1
            if kind == "page_info_changed":
                self.query = told.page_info_changed.query_string
            if kind == "script_finished":
                return found


@contextmanager
def server_under_load(*options: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server of its own, warm: it has drawn a page already."""
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder) / "log.txt", *options) as (address, process):
        wait_until_healthy(address, process)
        asyncio.run(Visitor().visit(address, 3, 10))
        yield address, psutil.Process(process.pid)
        log = (Path(folder) / "log.txt").read_text(encoding="utf-8")
        if "Traceback" in log:
            print(log[-3000:])


async def _with_memory(process: psutil.Process, work: asyncio.Future[list[None]]) -> list[float]:
    """MB of the server's resident memory, looked at twice a second while `work` goes on."""
    samples = []
    while not work.done():
        samples.append(process.memory_info().rss / 1e6)
        await asyncio.sleep(0.5)
    await work
    return samples


def delays(viewers: list[Viewer]) -> np.ndarray:
    """Seconds from when any viewer had a step until each viewer had it, for every message."""
    stops = sorted({stop for viewer in viewers for _, stop in viewer.arrivals})
    first = {}
    for viewer in viewers:
        for at, stop in viewer.arrivals:
            first[stop] = min(at, first.get(stop, np.inf))
    # A message that ends at a later step has told the earlier ones too.
    known = np.minimum.accumulate([first[stop] for stop in reversed(stops)])[::-1]
    told = dict(zip(stops, known, strict=True))
    waits = []
    for viewer in viewers:
        before = 0
        for at, stop in viewer.arrivals[1:]:
            inside = [step for step in stops[np.searchsorted(stops, before, "right") :] if step <= stop]
            waits += [at - told[step] for step in inside]
            before = stop
    return np.array(waits)


def viewers_of_one_run(count: int, seconds: float) -> None:
    """Many viewers of one run."""
    with server_under_load() as (address, process):
        parts = urlsplit(address)
        owner, viewers = Visitor("autoplay=1&seed=7"), [Viewer() for _ in range(count)]

        async def play() -> list[float]:
            async with connect(f"ws://{parts.netloc}/_stcore/stream", max_size=LARGEST,
                               subprotocols=["streamlit"], origin=address) as socket:  # fmt: skip
                run_id = await owner.rerun(socket)
                assert run_id is not None
                watching = [
                    viewer.watch(str(parts.hostname), int(parts.port or 80), run_id, seconds) for viewer in viewers
                ]
                return await _with_memory(process, asyncio.gather(*watching))

        cpu = process.cpu_times()
        memory = asyncio.run(play())
        used = process.cpu_times()
        messages = [len(viewer.arrivals) / seconds for viewer in viewers]
        waits = delays(viewers) * 1000
        last = [viewer.arrivals[-1] for viewer in viewers if viewer.arrivals]
        print(
            f"{count} viewers of one run, {seconds:.0f} s: messages/s each {min(messages):.1f} (least) to "
            f"{max(messages):.1f}; delivery p50 {np.percentile(waits, 50):.0f} ms, p95 {np.percentile(waits, 95):.0f} "
            f"ms; step {max(stop for _, stop in last)}; peak memory {max(memory):.0f} MB; errors "
            f"{sum(v.errors for v in viewers)}; gaps {sum(v.gaps for v in viewers)}; server's processor time "
            f"{(used.user + used.system - cpu.user - cpu.system) / seconds:.2f} cores"
        )


def sessions_with_runs(count: int, seconds: float, arriving: float, identical: bool) -> None:
    """Many sessions, each with a run of its own, or all with the same one."""
    with server_under_load() as (address, process):
        visitors = [Visitor(f"autoplay=1&seed={7 if identical else number}") for number in range(count)]

        async def come(number: int, visitor: Visitor) -> None:
            await asyncio.sleep(arriving * number / count)
            await visitor.visit(address, seconds, 3 + number % 3)

        async def play() -> list[float]:
            return await _with_memory(process, asyncio.gather(*(come(i, v) for i, v in enumerate(visitors))))

        memory = asyncio.run(play())
        paints = [visitor.first_paint for visitor in visitors]
        reruns = [seconds for visitor in visitors for seconds in visitor.reruns] or [float("nan")]
        speeds = [_speed(visitor.viewer) for visitor in visitors]
        print(
            f"{count} sessions {'with the same run' if identical else 'with a run each'}, arriving in {arriving:.0f} "
            f"s: first paint p95 {np.nanpercentile(paints, 95):.2f} s; rerun p50 {np.percentile(reruns, 50) * 1000:.0f}"
            f" ms, p95 {np.percentile(reruns, 95) * 1000:.0f} ms; steps/s {sum(speeds):.0f} in total, slowest / mean "
            f"{min(speeds) / np.mean(speeds):.2f}; peak memory {max(memory):.0f} MB; errors "
            f"{sum(v.errors + v.viewer.errors for v in visitors)}; gaps {sum(v.viewer.gaps for v in visitors)}"
        )


def _speed(viewer: Viewer) -> float:
    """Steps/s over the second half of what a viewer saw."""
    if len(viewer.arrivals) < 4:
        return 0.0
    (begin, first), (end, last) = viewer.arrivals[len(viewer.arrivals) // 2], viewer.arrivals[-1]
    return (last - first) / (end - begin)


def main() -> None:
    """Read the command line and print one line for each scene."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--viewers", type=int, default=300)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", choices=("viewers", "sessions", "identical"))
    options = parser.parse_args()
    if options.only in (None, "viewers"):
        viewers_of_one_run(options.viewers, options.seconds)
    if options.only in (None, "sessions"):
        sessions_with_runs(options.sessions, options.seconds, 10, identical=False)
    if options.only in (None, "identical"):
        sessions_with_runs(options.sessions, options.seconds, 10, identical=True)


if __name__ == "__main__":
    main()
