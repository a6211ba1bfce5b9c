"""The program of a nursery: loads torch once, then forks a child for each request, until the server ends.

Started as `python -c`, with the number of a socket and the modules to load as arguments. Each message on the socket is
JSON; a request to start a child carries the ends of two pipes, its standard input and output.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

LONGEST_MESSAGE = 1 << 16
NICEST = 19
NICE = 5
"""Of processes for whose work visitors wait. The server, which answers visitors, goes first."""


def run_function(name: str) -> None:
    """Calls a function without arguments by its name, `package.module:function`."""
    module, _, function = name.partition(":")
    getattr(import_module(module), function)()


def lower_priority(niceness: int) -> None:
    """Makes this process yield to others that are less nice, where the system knows that. With `NICEST` it gets only
    what no other wants, and does not even finish a time slice when one wakes up."""
    if hasattr(os, "nice"):
        os.nice(niceness)
    if niceness >= NICEST and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class Forker:
    """Starts and stops children on request, and reports when they begin and end.

    It has a single thread, and no library has started one: only then is it safe to fork and compute in the child.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[int, int] = {}
        """The number of each child by its process id."""
        self._woken, self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes)

    def serve(self) -> None:
        """Handles requests until the server has closed the socket; then ends all children."""
        while True:
            ready = select.select([self._control.fileno(), self._woken], [], [])[0]
            if self._woken in ready:
                os.read(self._woken, 1_000)
                self._reap()
            if self._control.fileno() in ready:
                message, pipes = self._receive()
                if not message:
                    break
                self._obey(json.loads(message), pipes)
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            message, pipes, _, _ = socket.recv_fds(self._control, LONGEST_MESSAGE, 2)
            return message, pipes
        except ConnectionResetError:  # the server was killed and had not read a report
            return b"", []

    def _obey(self, request: dict[str, Any], pipes: list[int]) -> None:
        number = request["number"]
        if "function" in request:
            pid = os.fork()
            if not pid:
                self._become(request, pipes)
            for pipe in pipes:
                os.close(pipe)
            self._pids[pid] = number
            self._report(number=number, pid=pid)
        else:
            for pid in [pid for pid, own in self._pids.items() if own == number]:
                os.kill(pid, signal.SIGTERM)

    def _become(self, request: dict[str, Any], pipes: list[int]) -> None:
        """In the child: calls its function, and never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            for pipe, standard in zip(pipes, (0, 1), strict=True):
                os.dup2(pipe, standard)
                os.close(pipe)
            with suppress(OSError):
                Path("/proc/self/comm").write_text(request["name"])
            lower_priority(request["niceness"])
            run_function(request["function"])
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._report(number=self._pids.pop(pid), code=os.waitstatus_to_exitcode(status))

    def _report(self, **message: int) -> None:
        with suppress(OSError):  # the server has ended
            self._control.send(json.dumps(message).encode())


def main() -> None:
    """Loads the modules, then serves."""
    descriptor, delay, *modules = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    forker = Forker(socket.socket(fileno=int(descriptor)))
    time.sleep(float(delay))
    for module in modules:
        import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise copy the memory that it shares
    forker.serve()
