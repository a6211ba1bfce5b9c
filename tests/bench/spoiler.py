"""One client that takes all it can get: uploads, lectures, training, sweeps, estimates and slides, all at once.

`python -m tests.bench.spoiler ADDRESS SECONDS` runs it in a process of its own and prints what it was answered. With
names from `DEEDS` after that, it does only these.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from uuid import uuid4

import httpx
from websockets.exceptions import WebSocketException

from tests.bench.load_clients import Viewer
from tests.support.raw_session import RawSession, raw_session

DEEDS = ("upload", "begin_lectures", "hold_places", "sweep", "estimate", "ask_slides")
"""What it does, in the order of rows 1 to 6."""
LARGEST_RUN = "num_experts=64&top_k=8&batch_tokens=2048&expert_hidden_size=256"
UPLOADS, MEGABYTES = 25, 39
LINE = 120
"""Megabytes per second that its line carries: 1 Gbit/s."""
STREAMS, SLIDE_RUNS, SLIDES, SWEEPS = 60, 10, 8, 3
PAUSE = 0.25
"""Seconds between its rounds of anything."""
REFUSALS = (OSError, httpx.HTTPError, WebSocketException, TimeoutError, KeyError)
"""What it may meet instead of an answer."""
SLIDE_NAMES = ("imbalance", "utilization", "nosuch", "routing_map")


class Spoiler:
    """Does rows 1 to 6 of what one visitor could spoil, over and over, until it is cancelled.

    Args:
        address: of the server.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port = int(port)
        self.answers: Counter[str] = Counter()
        """How often each thing was done or refused."""

    async def spoil(self, deeds: Sequence[str]) -> None:
        """Does all this at once."""
        async with asyncio.TaskGroup() as tasks:
            for deed in deeds:
                tasks.create_task(self._again_and_again(getattr(self, f"_{deed}")))

    async def _again_and_again(self, deed: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await deed()
            except REFUSALS as error:
                self.answers[f"{deed.__name__.strip('_')}: {type(error).__name__}"] += 1
            await asyncio.sleep(PAUSE)

    async def _upload(self) -> None:
        """Row 1: large files straight to the upload address."""
        body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.csv"\r\n\r\n'
        body += bytes(MEGABYTES << 20) + b"\r\n--x--\r\n"
        async with raw_session(self._address) as session, httpx.AsyncClient(timeout=60) as client:
            await client.get(f"{self._address}/_stcore/health")
            token = client.cookies.get("_streamlit_xsrf", "")
            headers = {"X-Xsrftoken": token, "Content-Type": "multipart/form-data; boundary=x"}
            for _ in range(UPLOADS):
                file = f"{self._address}/_stcore/upload_file/{session.session_id}/{uuid4()}"
                with suppress(*REFUSALS):  # the server may close the connection before it has read the file
                    answer = await client.put(file, content=body, headers=headers)
                    self.answers[f"upload {answer.status_code}"] += 1
                await asyncio.sleep(MEGABYTES / LINE)
            await asyncio.sleep(5)

    async def _begin_lectures(self) -> None:
        """Row 2: begins a lecture and leaves."""
        async with raw_session(self._address, f"seed={self.answers['lectures']}") as session:
            for label in ("Share", "Start a lecture"):
                await session.run(press=label)
            self.answers["lectures"] += 1

    async def _hold_places(self) -> None:
        """Row 3: streams of runs whose sessions are closed."""
        viewers = []
        for seed in range(STREAMS):
            async with raw_session(self._address, f"autoplay=1&seed={5000 + seed}") as session:
                viewer = Viewer()
                viewers.append(asyncio.create_task(viewer.watch(self._host, self._port, session.run_id, 1e6)))
        self.answers["streams"] += len(viewers)
        try:
            await asyncio.sleep(1e6)
        finally:
            for one in viewers:
                one.cancel()

    async def _sweep(self) -> None:
        """Row 4: sweeps of a large configuration."""
        async with AsyncExitStack() as stack:
            sessions = [
                await stack.enter_async_context(raw_session(self._address, f"expert_hidden_size=256&seed={seed}"))
                for seed in range(SWEEPS)
            ]
            for session in sessions:
                await session.run(page="sweep")
                await session.run(press="Start")
                self.answers["sweeps"] += 1
            while True:
                await self._look(sessions, 10)

    async def _look(self, sessions: list[RawSession], seconds: float) -> None:
        for session in sessions:
            await session.run()
        await asyncio.sleep(seconds)

    async def _estimate(self) -> None:
        """Row 5: the Sweep page of ever other large configurations."""
        width = 256 - self.answers["estimates"] % 200
        query = f"{LARGEST_RUN.replace('256', str(width))}&seed={self.answers['estimates']}"
        async with raw_session(self._address, query) as session:
            await session.run(page="sweep")
            self.answers["estimates"] += 1
            for _ in range(3):
                await self._look([session], 1)

    async def _ask_slides(self) -> None:
        """Row 6: many slides of ten runs, half of them given up."""
        async with AsyncExitStack() as stack:
            runs = [
                (await stack.enter_async_context(raw_session(self._address, f"seed={7000 + number}"))).run_id
                for number in range(SLIDE_RUNS)
            ]
            while True:
                await asyncio.gather(
                    *(self._slide(run, number) for run in runs for number in range(SLIDES)), return_exceptions=True
                )
                await asyncio.sleep(PAUSE)

    async def _slide(self, run_id: str, number: int) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            name = SLIDE_NAMES[number % len(SLIDE_NAMES)]
            writer.write(f"GET /slide/{run_id}/{name} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
            if number % 2:
                await asyncio.sleep(0.1)
                return
            status = await asyncio.wait_for(reader.readline(), 60)
            self.answers[f"slide {status[9:12].decode()}"] += 1
        finally:
            writer.close()


async def _spoil_for(address: str, seconds: float, deeds: Sequence[str]) -> None:
    spoiler = Spoiler(address)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await spoiler.spoil(deeds)
    words = ", ".join(f"{what} {count}" for what, count in sorted(spoiler.answers.items()))
    print(f"the spoiler, which took {time.process_time() / seconds:.1f} cores itself: {words}")


if __name__ == "__main__":
    asyncio.run(_spoil_for(sys.argv[1], float(sys.argv[2]), sys.argv[3:] or DEEDS))
