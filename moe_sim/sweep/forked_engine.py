"""Runs a visitor's sweep in children of the server's nursery, which start at once and share its memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from moe_sim.processes.calls import Caller, ProcessEnded
from moe_sim.processes.forker import NICEST
from moe_sim.processes.nursery import Nursery
from moe_sim.sweep.engine import Engine, EngineSession
from moe_sim.sweep.worker import never


@dataclass(frozen=True)
class Forked(Engine):
    """Processes of a nursery."""

    nursery: Nursery
    workers: int
    name: str = "forked"

    def open(self, cancelled: Callable[[], bool]) -> EngineSession:
        """See `Engine`."""
        return _ForkedSession(self.nursery, self.workers)


class _ForkedSession(EngineSession):
    def __init__(self, nursery: Nursery, workers: int) -> None:
        self.executor = self._processes = _Processes(nursery, workers)
        self.window = 2 * workers
        self.stopped = never  # `stop` ends the processes instead

    def stop(self) -> None:
        self._processes.stop()

    def close(self) -> None:
        self._processes.shutdown()


class _Processes(Executor):
    """Computes each call in one of a few processes; one that ends is replaced.

    Args:
        nursery: starts the processes.
        count: how many.
    """

    def __init__(self, nursery: Nursery, count: int) -> None:
        self._nursery = nursery
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sweep")
        self._idle: SimpleQueue[Caller] = SimpleQueue()
        self._all: list[Caller] = []
        self._stopped = False
        for _ in range(count):
            self._idle.put(self._start())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor`. Keyword arguments are not supported."""
        return self._threads.submit(self._call, fn, args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor`."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for process in self._all:
            process.close()

    def stop(self) -> None:
        """Ends the processes now; calls in progress fail."""
        self._stopped = True
        for process in self._all:
            process.stop()
        self.shutdown(cancel_futures=True)

    def _start(self) -> Caller:
        process = Caller(self._nursery, "moe-sweep", NICEST)
        self._all.append(process)
        return process

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        process = self._idle.get()
        try:
            return process.call(function, *args)
        except ProcessEnded:
            if not self._stopped:
                process = self._start()
            raise
        finally:
            self._idle.put(process)
