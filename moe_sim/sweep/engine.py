"""What a sweep needs of whatever computes it: an executor, and a way to end it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from typing import Any

from moe_sim.sweep.worker import StopFlag


class EngineError(Exception):
    """The engine cannot work. The message is a sentence for the user."""


class Session(ABC):
    """An executor that is open."""

    executor: Executor
    window: int
    """Runs to hand out at a time: few, so that little is in flight when a worker dies."""
    stopped: StopFlag
    """Goes to the workers with each run."""

    @abstractmethod
    def stop(self) -> None:
        """End it now: a moment later no worker computes any more, whatever it was at."""

    @abstractmethod
    def close(self) -> None:
        """End it when nothing is left to do."""

    def worker_ended(self, error: BaseException) -> bool:
        """Whether a future has this exception because its worker ended, and not because of the run itself."""
        return isinstance(error, BrokenExecutor)


class Engine(ABC):
    """A way to compute runs."""

    name: str

    @abstractmethod
    def open(self, cancelled: Callable[[], bool]) -> Session:
        """Start what computes.

        Args:
            cancelled: becomes true in the driver's process when the sweep is cancelled.

        Raises:
            EngineError: if that is not possible, with a sentence that says why.
        """


@dataclass(frozen=True)
class InProcess(Engine):
    """Any executor whose workers are threads of this process, or its caller."""

    name: str
    make: Callable[[], Executor]
    window: int = 1

    def open(self, cancelled: Callable[[], bool]) -> Session:
        """See `Engine`."""
        return _InProcessSession(self.make(), self.window, cancelled)


class _InProcessSession(Session):
    def __init__(self, executor: Executor, window: int, cancelled: Callable[[], bool]) -> None:
        self.executor, self.window, self.stopped = executor, window, cancelled

    def stop(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        self.executor.shutdown()


class SerialExecutor(Executor):
    """Does each call when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The call is over when this returns; a Ctrl-C in it goes to the caller."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
