"""Measures a small server under load: `python -m tests.bench.load` starts one, sends it clients, and prints a table.

Viewers read the live stream. Sessions speak Streamlit's websocket protocol as a browser does: they open a page with an
autoplay run, read its stream and trigger reruns. Clients and server share the machine; leave it idle otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import torch
from websockets.asyncio.client import connect

from moe_sim import RunConfig, Trainer
from tests.bench.load_clients import LARGEST, Viewer, Visitor
from tests.support.raw_session import raw_session
from tests.support.serving import ROOT, launch, wait_until_healthy

WARM = 8.0
"""Warm-up in seconds: a first visitor trains until the worker processes have loaded torch."""
BARE_SECONDS = 6.0
HEAD_START = 8.0
"""Seconds that a spoiler has the server for itself."""
STUDENTS = 5
"""Viewers of the lecture beside a spoiler."""


@dataclass
class Watch:
    """Observes the server's processes from outside."""

    process: psutil.Process
    memory: list[float]
    """MB of all processes together; shared memory counts once."""
    waits: list[float]
    """Seconds until the health check answered."""

    async def look(self, address: str, work: asyncio.Future[Any], every: float) -> None:
        """Take samples until `work` is done."""
        async with httpx.AsyncClient(timeout=30) as client:
            while not work.done():
                asked = time.perf_counter()
                await client.get(f"{address}/_stcore/health")
                self.waits.append(time.perf_counter() - asked)
                self.memory.append(await asyncio.to_thread(self._memory))
                await asyncio.wait([work], timeout=every)

    def _memory(self) -> float:
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss / 1e6
        return total


@contextmanager
def server_under_load() -> Iterator[tuple[str, Watch]]:
    """A new server that is warmed up: it has drawn a page and trained."""
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder) / "log.txt") as (address, process):
        wait_until_healthy(address, process)
        asyncio.run(Visitor("autoplay=1").visit(address, WARM, 2 * WARM))
        yield address, Watch(psutil.Process(process.pid), [], [])
        log = (Path(folder) / "log.txt").read_text(encoding="utf-8")
        if "Traceback" in log:
            print(log[-3000:])


def under_watch(address: str, watch: Watch, clients: Sequence[Coroutine[Any, Any, None]], every: float = 2) -> None:
    """Run all clients while observing the server."""

    async def work() -> None:
        gathered = asyncio.gather(*clients)
        await watch.look(address, gathered, every)
        await gathered

    asyncio.run(work())


def delays(viewers: list[Viewer]) -> np.ndarray:
    """Delivery delays in seconds: from the first viewer that received a step to each other viewer."""
    stops = sorted({stop for viewer in viewers for _, stop in viewer.arrivals})
    first = {}
    for viewer in viewers:
        for at, stop in viewer.arrivals:
            first[stop] = min(at, first.get(stop, np.inf))
    # A message that ends at a later step delivers the earlier ones too.
    known = np.minimum.accumulate([first[stop] for stop in reversed(stops)])[::-1]
    delivered = dict(zip(stops, known, strict=True))
    waits = []
    for viewer in viewers:
        before = 0
        for at, stop in viewer.arrivals[1:]:
            inside = [step for step in stops[np.searchsorted(stops, before, "right") :] if step <= stop]
            waits += [at - delivered[step] for step in inside]
            before = stop
    return np.array(waits)


def row(scene: str, watch: Watch, clients: Sequence[Viewer | Visitor], **measured: str) -> None:
    """Print one line of the table."""
    viewers = [client.viewer if isinstance(client, Visitor) else client for client in clients]
    errors = sum(viewer.errors for viewer in viewers)
    errors += sum(client.errors for client in clients if isinstance(client, Visitor))
    parts = [f"{name.replace('_', ' ')} {value}" for name, value in measured.items()]
    parts += [
        f"health at most {max(watch.waits):.2f} s", f"peak memory {max(watch.memory):.0f} MB", f"errors {errors}",
        f"gaps {sum(viewer.gaps for viewer in viewers)}",
    ]  # fmt: skip
    print(f"{scene}: {'; '.join(parts)}", flush=True)


def viewers_of_one_run(count: int, seconds: float) -> None:
    """Measure many viewers of one run."""
    with server_under_load() as (address, watch):
        parts = urlsplit(address)
        viewers = [Viewer() for _ in range(count)]

        async def play() -> None:
            async with connect(f"ws://{parts.netloc}/_stcore/stream", max_size=LARGEST,
                               subprotocols=["streamlit"], origin=address) as socket:  # fmt: skip
                run_id = await Visitor("autoplay=1&seed=7").rerun(socket)
                assert run_id is not None
                await asyncio.gather(
                    *(viewer.watch(str(parts.hostname), int(parts.port or 80), run_id, seconds) for viewer in viewers)
                )

        before = watch.process.cpu_times()
        under_watch(address, watch, [play()])
        after = watch.process.cpu_times()
        messages = [len(viewer.arrivals) / seconds for viewer in viewers]
        waits = delays(viewers) * 1000
        row(
            f"{count} viewers of one run", watch, viewers, messages_per_second=f"{min(messages):.1f} at least",
            delivery=f"p50 {np.percentile(waits, 50):.0f} ms, p95 {np.percentile(waits, 95):.0f} ms",
            page_process=f"{(after.user + after.system - before.user - before.system) / seconds:.2f} cores",
        )  # fmt: skip


def sessions(
    scene: str, count: int, seconds: float, query: str, *, arriving: float = 10, rerun_every: float = 4,
    bare: float | None = None, look_every: float = 2, stay: float = math.inf,
) -> Watch:  # fmt: skip
    """Measure many sessions that train and rerun. In `query`, {} is the session's number. A session that ends after
    `stay` seconds is replaced by a new one."""
    with server_under_load() as (address, watch):
        visitors: list[Visitor] = []

        async def occupy(number: int) -> None:
            await asyncio.sleep(arriving * number / count)
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 1 and not any(visitor.errors for visitor in visitors):
                visitor = Visitor(query.format(len(visitors)))
                visitors.append(visitor)
                await visitor.visit(address, min(stay, left), rerun_every - 1 + number % 3)

        under_watch(address, watch, [occupy(number) for number in range(count)], look_every)
        paints = [visitor.first_paint for visitor in visitors]
        reruns = [1000 * wait for visitor in visitors for wait in visitor.reruns]
        speeds = [speed for visitor in visitors if (speed := _speed(visitor.viewer)) > 0]
        measured = {"first_paint": f"p95 {np.nanpercentile(paints, 95):.2f} s"}
        if reruns:
            measured["rerun"] = f"p50 {np.percentile(reruns, 50):.0f} ms, p95 {np.percentile(reruns, 95):.0f} ms"
        if stay > seconds:
            measured["training"] = f"{len(speeds)}, {sum(speeds):.0f} steps/s in total"
        if bare is not None:
            measured["of_a_bare_loop"] = f"{sum(speeds) / bare:.0%}"
        measured["slowest"] = f"{min(speeds) / statistics.mean(speeds):.2f} of the mean"
        row(f"{len(visitors)} {scene}", watch, visitors, **measured)
        return watch


def soak(count: int, minutes: float) -> None:
    """Measure memory growth from minute 5 on, with `count` concurrent sessions of two minutes each."""
    watch = sessions(
        "sessions, one after another",
        count,
        60 * minutes,
        "autoplay=1&seed={}",
        rerun_every=20,
        look_every=5,
        stay=120,
    )
    per_minute = len(watch.memory) / minutes
    early = statistics.median(watch.memory[int(4.5 * per_minute) : int(5.5 * per_minute)])
    late = statistics.median(watch.memory[-int(per_minute) :])
    print(f"memory at minute 5 {early:.0f} MB, at minute {minutes:.0f} {late:.0f} MB: {late / early - 1:+.1%}")


@dataclass
class Class:
    """Honest visitors with a run each, and a lecture with students."""

    visitors: list[Visitor]
    students: list[Visitor]
    seconds: float

    async def meet(self, address: str, head_start: float) -> None:
        """Arrive within ten seconds and stay for `seconds`; the lecture begins first."""
        async with raw_session(address, "autoplay=1&seed=999") as teacher:
            for label in ("Share", "Start a lecture", "Share"):
                await teacher.run(press=label)
            link = re.search(r"follow=[\w-]+", " ".join(teacher.texts))
            assert link is not None, "the lecture is refused"
            for student in self.students:
                student.query = link.group()
            await asyncio.sleep(head_start)
            await asyncio.gather(*(self._come(address, student, 0) for student in self.students), *(
                self._come(address, visitor, 10 * number / len(self.visitors))
                for number, visitor in enumerate(self.visitors)
            ))  # fmt: skip

    async def _come(self, address: str, visitor: Visitor, after: float) -> None:
        await asyncio.sleep(after)
        await visitor.visit(address, self.seconds - after, 3)

    @property
    def rate(self) -> float:
        """Steps/s of all visitors' runs together."""
        return sum(_speed(visitor.viewer) for visitor in self.visitors)

    @property
    def lecture_rate(self) -> float:
        """Steps/s that the students see, the slowest of them; 0 if one has lost the lecture."""
        return min(0.0 if student.errors or student.viewer.errors else _speed(student.viewer)
                   for student in self.students)  # fmt: skip


def beside_a_spoiler(count: int, seconds: float) -> None:
    """Measure a class without a client that takes all it can get, and with it."""
    alone = _class_of("visitors and a lecture", count, seconds, spoiled=False)
    beside = _class_of("the same beside a spoiler", count, seconds, spoiled=True)
    print(f"steps/s beside the spoiler: {beside.rate / alone.rate:.0%} of those without", flush=True)


def _class_of(scene: str, count: int, seconds: float, *, spoiled: bool) -> Class:
    with server_under_load() as (address, watch):
        visitors = [Visitor(f"autoplay=1&seed={number}") for number in range(count)]
        together = Class(visitors, [Visitor() for _ in range(STUDENTS)], seconds)
        spoiler = None
        if spoiled:
            command = [sys.executable, "-m", "tests.bench.spoiler", address, str(HEAD_START + seconds)]
            spoiler = subprocess.Popen(command, cwd=ROOT)
            psutil.Process(spoiler.pid).nice(5)  # elsewhere it would have a machine of its own
        under_watch(address, watch, [together.meet(address, HEAD_START if spoiled else 0.0)], 1)
        if spoiler is not None:
            spoiler.wait(60)
        reruns = [1000 * wait for visitor in visitors for wait in visitor.reruns]
        row(
            f"{count} {scene}", watch, [*visitors, *together.students],
            first_paint=f"p95 {np.nanpercentile([visitor.first_paint for visitor in visitors], 95):.2f} s",
            rerun=f"p50 {np.percentile(reruns, 50):.0f} ms, p95 {np.percentile(reruns, 95):.0f} ms",
            training=f"{together.rate:.0f} steps/s in total", lecture=f"{together.lecture_rate:.0f} steps/s",
        )  # fmt: skip
        return together


def quiz_beside_training(count: int, seconds: float) -> None:
    """Measure a class of which as many open the quiz, all in the same moment, as train a run."""
    with server_under_load() as (address, watch):
        visitors = [Visitor(f"autoplay=1&seed={number}") for number in range(count)]
        waits: list[float] = []

        async def open_quiz(number: int) -> None:
            async with raw_session(address, f"level=practitioner&seed={number}") as session:
                await asyncio.sleep(seconds / 2)
                asked = time.perf_counter()
                await session.run(page="quiz")
                waits.append(time.perf_counter() - asked)

        clients = [visitor.visit(address, seconds, 3) for visitor in visitors]
        under_watch(address, watch, [*clients, *(open_quiz(number) for number in range(count))], 0.2)
        reruns = [1000 * wait for visitor in visitors for wait in visitor.reruns]
        row(
            f"{count} open the quiz while {count} train", watch, visitors,
            question=f"p50 {np.percentile(waits, 50):.1f} s, p95 {np.percentile(waits, 95):.1f} s",
            rerun=f"p50 {np.percentile(reruns, 50):.0f} ms, p95 {np.percentile(reruns, 95):.0f} ms",
            training=f"{sum(_speed(visitor.viewer) for visitor in visitors):.0f} steps/s in total",
        )  # fmt: skip


def bare_rate() -> float:
    """Steps/s in total of default runs in plain loops, one process per core, in parallel."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(psutil.cpu_count()) as pool:
        return sum(pool.map(_bare_loop, range(psutil.cpu_count() or 1)))


def _bare_loop(seed: int) -> float:
    torch.set_num_threads(1)
    trainer = Trainer(RunConfig(seed=seed))
    trainer.run(100)
    start = time.perf_counter()
    while time.perf_counter() < start + BARE_SECONDS:
        trainer.step()
    return (trainer.steps_done - 100) / (time.perf_counter() - start)


def _speed(viewer: Viewer) -> float:
    """Steps/s over the second half of a viewer's messages."""
    if len(viewer.arrivals) < 4:
        return 0.0
    (begin, first), (end, last) = viewer.arrivals[len(viewer.arrivals) // 2], viewer.arrivals[-1]
    return (last - first) / (end - begin)


def main() -> None:
    """Parse the command line and print one line per scene."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("--viewers", type=int, default=300)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--minutes", type=float, default=30, help="of the scene `long`")
    parser.add_argument(
        "--only", choices=("viewers", "sessions", "arrivals", "identical", "tabs", "quiz", "spoiler", "long")
    )
    options = parser.parse_args()

    def wanted(scene: str) -> bool:
        return options.only == scene or (options.only is None and scene != "long")

    if wanted("viewers"):
        viewers_of_one_run(options.viewers, options.seconds)
    if wanted("sessions"):
        bare = bare_rate()
        print(f"a bare loop on each core: {bare:.0f} steps/s in total")
        sessions("sessions with a run each", options.sessions, options.seconds, "autoplay=1&seed={}", bare=bare)
    if wanted("arrivals"):
        sessions("sessions that arrive within 10 s", 50, options.seconds, "autoplay=1&seed={}")
    if wanted("identical"):
        sessions("sessions with the same run", options.sessions, options.seconds, "autoplay=1&seed=7")
    if wanted("tabs"):
        sessions(
            "tabs with 64 experts", 100, options.seconds, "autoplay=1&seed={}&num_experts=64&top_k=2", rerun_every=60
        )
    if wanted("quiz"):
        quiz_beside_training(20, options.seconds)
    if wanted("spoiler"):
        beside_a_spoiler(20, options.seconds)
    if wanted("long"):
        soak(options.sessions, options.minutes)


if __name__ == "__main__":
    main()
