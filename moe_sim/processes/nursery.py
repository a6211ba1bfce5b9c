"""Starts child processes that compute: forks of a process that has loaded torch.

To load torch takes a process two seconds or more, and 160 MB of its own. The nursery's process does it once; a fork of
it starts in milliseconds and shares this memory. The server itself cannot be forked, because it has threads. Where a
loaded process cannot be forked safely (anywhere but on Linux), each child is a new interpreter.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

LOADED = ("moe_sim.live.runners.worker", "moe_sim.sweep.worker", "moe_sim.sweep.pace", "moe_sim.processes.calls")
"""Modules that children need, with torch."""
FORKS = sys.platform == "linux"
_ROOT = Path(__file__).resolve().parents[2]
_FORKER = "from moe_sim.processes.forker import main; main()"
_ALONE = (
    "import signal, sys; from moe_sim.processes.forker import lower_priority, run_function; "
    "signal.signal(signal.SIGINT, signal.SIG_IGN); lower_priority(int(sys.argv[1])); run_function(sys.argv[2])"
)


class Child(Protocol):
    """A child process, with the names of `subprocess.Popen`."""

    stdin: BinaryIO
    stdout: BinaryIO
    pid: int | None
    """The process id; None until it has started."""

    def poll(self) -> int | None:
        """Returns its exit code, or None while it runs."""
        ...

    def terminate(self) -> None:
        """Ends it soon, whatever it does."""
        ...


def close_pipes(child: Child) -> None:
    """Closes the pipes to a child, which ends when it reads the next time."""
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):  # unsent data
            pipe.close()


class Nursery:
    """Starts children. Its own process starts with the first one. All methods may be called from any thread.

    Args:
        delay: seconds before the process loads torch, so that the first visitor's page loads first.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._listener: threading.Thread | None = None
        self._children: dict[int, _Fork] = {}
        self._spawned: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count(1)

    def start(self, function: str, name: str, niceness: int) -> Child:
        """Starts a child and returns at once; it may still have to wait until torch is loaded.

        Args:
            function: what it calls, `package.module:function`. It reads requests from standard input and ends with it.
            name: shown as the name of the process, at most 15 characters.
            niceness: added to the server's.
        """
        with self._lock:
            if not FORKS:
                return self._spawn(function, niceness)
            if self._process is None or self._process.poll() is not None:
                self._begin()
            assert self._control is not None
            number = next(self._numbers)
            (stdin, reads), (stdout, writes) = _pipe(to_child=True), _pipe(to_child=False)
            child = self._children[number] = _Fork(number, stdin, stdout, self._control)
            request = {"number": number, "function": function, "name": name, "niceness": niceness}
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], [reads, writes])
            except OSError:  # the process has just ended
                self._children.pop(number).code = -1
            os.close(reads)
            os.close(writes)
        return child

    def stop(self) -> None:
        """Ends the process and all children. Blocks until the process has ended."""
        with self._lock:
            process, control, listener = self._process, self._control, self._listener
            self._process = self._control = self._listener = None
            for child in self._spawned:
                child.terminate()
                child.wait()
            self._spawned = []
        if process is None or control is None or listener is None:
            return
        with suppress(OSError):
            control.shutdown(socket.SHUT_RDWR)
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:  # it is still loading torch and has no children
            process.kill()
            process.wait()
        listener.join()

    def _spawn(self, function: str, niceness: int) -> Child:
        command = [sys.executable, "-c", _ALONE, str(niceness), function]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment())
        self._spawned = [one for one in self._spawned if one.poll() is None] + [child]
        return child  # type: ignore[return-value]  # its pipes are not None

    def _begin(self) -> None:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-c", _FORKER, str(theirs.fileno()), str(self._delay), *LOADED]
            # One thread: a library that starts its own when it is loaded could not be forked.
            single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                env=_environment() | single | {"MALLOC_ARENA_MAX": "2"},
            )  # fmt: skip
        self._delay, self._control = 0.0, control
        self._children = {}
        self._listener = threading.Thread(target=_listen, args=(control, self._children), name="nursery", daemon=True)
        self._listener.start()


class _Fork:
    """A child of the nursery's process."""

    def __init__(self, number: int, stdin: BinaryIO, stdout: BinaryIO, control: socket.socket) -> None:
        self.stdin, self.stdout = stdin, stdout
        self.pid: int | None = None
        self.code: int | None = None
        self._number, self._control = number, control

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        with suppress(OSError):  # the nursery has ended, and with it the child
            self._control.send(json.dumps({"number": self._number}).encode())


def _listen(control: socket.socket, children: dict[int, _Fork]) -> None:
    """Notes when children start and end, until the nursery's process has ended."""
    with control:
        while message := _received(control):
            child = children.get(message["number"])
            if child is None:
                continue
            if "pid" in message:
                child.pid = message["pid"]
            else:
                child.code = message["code"]
                del children[message["number"]]
        for child in list(children.values()):
            child.code = -1


def _received(control: socket.socket) -> dict[str, int] | None:
    with suppress(OSError):
        if data := control.recv(1 << 16):
            message: dict[str, int] = json.loads(data)
            return message
    return None


def _pipe(*, to_child: bool) -> tuple[BinaryIO, int]:
    """A pipe to or from a child: our end as a file, and its end."""
    reading, writing = os.pipe()
    return (os.fdopen(writing, "wb"), reading) if to_child else (os.fdopen(reading, "rb"), writing)


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}
