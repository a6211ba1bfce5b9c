"""A real, busy server: it exits promptly on SIGTERM, and keeps nothing of visitors who have left."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from websockets.asyncio.client import connect

from tests.bench.load_clients import LARGEST, Viewer, Visitor
from tests.support.asynchronous import run_to_end
from tests.support.serving import launch, wait_until_healthy

A_LONG_SWEEP = """
from moe_sim.config.run_config import RunConfig
from moe_sim.server.server import Server
from moe_sim.sweep.grid import Cell
use_workers = Server.use_workers
def use_workers_and_sweep(server):
    use_workers(server)
    server.sweeps.book([Cell(RunConfig(seed=seed), 500) for seed in range(200)])
Server.use_workers = use_workers_and_sweep
from streamlit.web.cli import main
main()
"""
VISITORS, AT_A_TIME = 12, 4


async def come_and_go(address: str, visits: int) -> int:
    """Open `visits` websocket sessions with a run each, and close them abruptly. Returns how many saw a run."""
    slots, found = asyncio.Semaphore(AT_A_TIME), []

    async def visit(number: int) -> None:
        async with slots, connect(f"ws://{urlsplit(address).netloc}/_stcore/stream", max_size=LARGEST,
                                 subprotocols=["streamlit"], origin=address) as socket:  # fmt: skip
            found.append(await Visitor(f"autoplay=1&seed={number}").rerun(socket))

    await asyncio.gather(*(visit(number) for number in range(visits)))
    return sum(run_id is not None for run_id in found)


def test_sigterm_ends_a_busy_server_within_five_seconds_and_sessions_leave_no_thread(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with launch(log, starter=("-c", A_LONG_SWEEP)) as (address, server):
        wait_until_healthy(address, server)
        process = psutil.Process(server.pid)
        assert run_to_end(lambda: come_and_go(address, AT_A_TIME)) == AT_A_TIME
        threads = process.num_threads()
        assert run_to_end(lambda: come_and_go(address, VISITORS)) == VISITORS
        assert process.num_threads() <= threads + AT_A_TIME  # of sessions that are just closing

        seconds = run_to_end(lambda: terminated_while_watched(address, server))
    assert seconds < 5
    assert server.returncode in (0, -signal.SIGTERM), "uvicorn shuts down cleanly, then re-raises the signal"
    assert "Traceback" not in log.read_text(encoding="utf-8")


async def terminated_while_watched(address: str, server: subprocess.Popen[bytes]) -> float:
    """Seconds from SIGTERM until the server exits, with an open session, its run training, and its stream."""
    parts, visitor, viewer = urlsplit(address), Visitor("autoplay=1"), Viewer()
    async with connect(f"ws://{parts.netloc}/_stcore/stream", max_size=LARGEST,
                       subprotocols=["streamlit"], origin=address) as socket:  # fmt: skip
        run_id = await visitor.rerun(socket)
        assert run_id is not None
        watching = asyncio.create_task(viewer.watch(str(parts.hostname), int(parts.port or 0), run_id, 30))
        while not (viewer.arrivals and viewer.arrivals[-1][1] > 5):
            await asyncio.sleep(0.05)
        signalled = time.monotonic()
        server.terminate()
        await asyncio.to_thread(server.wait, 20)
        took = time.monotonic() - signalled
        await watching
    return took
