"""Calls of functions in a child process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from multiprocessing.connection import Connection
from typing import Any

from moe_sim.processes.nursery import Nursery, close_pipes


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
        self._requests = Connection(os.dup(self._child.stdin.fileno()), readable=False)
        self._answers = Connection(os.dup(self._child.stdout.fileno()), writable=False)
        close_pipes(self._child)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function that can be imported there, and returns what it returns.

        Raises:
            ProcessEnded: if the process ends before.
            Exception: what the function raises.
        """
        try:
            self._requests.send((function, args))
            succeeded, answer = self._answers.recv()
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
        self._requests.close()
        self._answers.close()


def answer() -> None:
    """In the child: answers calls until standard input ends. Anything printed goes to standard error."""
    requests, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    while True:
        try:
            function, args = requests.recv()
            result = True, function(*args)
        except (EOFError, OSError):
            return
        except Exception as error:
            result = False, error
        answers.send(result)
