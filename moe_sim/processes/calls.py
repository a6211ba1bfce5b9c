"""Calls of functions in a child process."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any, BinaryIO

from moe_sim.processes.nursery import Nursery, close_pipes

_LENGTH = struct.Struct("!Q")


class ProcessEnded(BrokenExecutor):
    """The process ended before it answered."""


class Caller:
    """A child process that computes one call after another. Not thread-safe.

    Args:
        nursery: starts the process.
        name: shown as the name of the process, at most 15 characters.
        niceness: added to the server's.
    """

    def __init__(self, nursery: Nursery, name: str, niceness: int) -> None:
        self._child = nursery.start("moe_sim.processes.calls:answer", name, niceness)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function that can be imported there, and returns what it returns.

        Raises:
            ProcessEnded: if the process ends before.
            Exception: what the function raises.
        """
        try:
            _send(self._child.stdin, (function, args))
            succeeded, answer = _receive(self._child.stdout)
        except (OSError, EOFError):
            raise ProcessEnded("the process has ended") from None
        if not succeeded:
            raise answer
        return answer

    def stop(self) -> None:
        """Ends the process, even during a call."""
        self._child.terminate()

    def close(self) -> None:
        """Releases the pipes; the process ends after its last call."""
        close_pipes(self._child)


def answer() -> None:
    """In the child: answers calls until standard input ends. Anything printed goes to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    while True:
        try:
            function, args = _receive(requests)
            result = True, function(*args)
        except (EOFError, OSError):
            return
        except Exception as error:
            result = False, error
        _send(answers, result)


def _send(stream: BinaryIO, message: Any) -> None:
    """Sends a message as other process pools do: both processes are ours."""
    data = ForkingPickler.dumps(message)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: BinaryIO) -> Any:
    """Waits for a message.

    Raises:
        EOFError: if the stream has ended.
    """
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    return ForkingPickler.loads(stream.read(*_LENGTH.unpack(header)))
