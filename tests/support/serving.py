"""A real server of the project on a loopback port, and a reader of its live stream."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """An unused loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def launch(
    log: Path,
    *options: str,
    starter: Sequence[str] = ("-m", "streamlit"),
    script: str = "app.py",
    port: int | None = None,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `streamlit run app.py` as a user would, but without slow starts, until the end of the block.

    Args:
        log: receives the output.
        options: further command-line options.
        starter: arguments of Python; they may prepare the process before running Streamlit's command line.
        script: the app.
        port: a free one by default.

    Yields:
        The address and the process; the server may not answer yet.
    """
    port = port or free_port()
    command = [sys.executable, *starter, "run", script, "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port), *options]
    with log.open("ab") as output:
        environment = {"MOE_SIM_SLOW_START": "off", **os.environ}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # which makes every start compile all that it imports
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def serving(log: Path, *options: str) -> Iterator[str]:
    """`launch` a server and wait until it answers; yields the address."""
    with launch(log, *options) as (address, server):
        wait_until_healthy(address, server)
        yield address


def wait_until_healthy(address: str, server: subprocess.Popen[bytes]) -> None:
    """Poll the health check until the server answers.

    Raises:
        RuntimeError: if it does not within 60 s, or has exited.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{address}/_stcore/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        select.select([], [], [], 0.05)
    raise RuntimeError("the server did not start")


def workers_of(server: int) -> list[psutil.Process]:
    """The worker processes of a server that compute live runs, by its process id."""
    return [child for child in psutil.Process(server).children(recursive=True) if child.name() == "moe-live"]


def read_stream(response: httpx.Response) -> Iterator[tuple[int, dict[str, Any], int]]:
    """The messages of an open `/live/…` response: event id, content, and size in bytes of the data line."""
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif "id" in event:
            yield int(event["id"]), json.loads(event["data"]), len(event["data"].encode())
            event = {}
        else:
            event = {}
