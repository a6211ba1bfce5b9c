"""The interface of engines, which compute sweeps: an executor, and a way to stop it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from typing import Any

from moe_sim.config.errors import UserError
from moe_sim.sweep.worker import StopFlag


class EngineError(UserError):
    """The engine cannot run."""


class EngineSession(ABC):
    """An open executor."""

    executor: Executor
    window: int
    """Most runs in flight; few, so that little is lost when a worker dies."""
    stopped: StopFlag
    """Sent to the workers with each run."""

    @abstractmethod
    def stop(self) -> None:
        """Stop now: within moments no worker computes any more."""

    @abstractmethod
    def close(self) -> None:
        """Shut down after the last run."""

    def worker_ended(self, error: BaseException) -> bool:
        """Whether a future has this exception because its worker died, not because of the run itself."""
        return isinstance(error, BrokenExecutor)


class Engine(ABC):
    """A way to compute runs."""

    name: str

    @abstractmethod
    def open(self, cancelled: Callable[[], bool]) -> EngineSession:
        """Start the workers.

        Args:
            cancelled: returns True, in the driver's process, once the sweep is cancelled.

        Raises:
            EngineError: if the workers cannot be started.
            MissingPackage: if the engine needs one that is not installed.
        """


@dataclass(frozen=True)
class InProcess(Engine):
    """Any executor that computes in threads of this process, or in the calling thread."""

    name: str
    make: Callable[[], Executor]
    window: int = 1

    def open(self, cancelled: Callable[[], bool]) -> EngineSession:
        """See `Engine`."""
        return _InProcessSession(self.make(), self.window, cancelled)


class _InProcessSession(EngineSession):
    def __init__(self, executor: Executor, window: int, cancelled: Callable[[], bool]) -> None:
        self.executor, self.window, self.stopped = executor, window, cancelled

    def stop(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        self.executor.shutdown()


class SerialExecutor(Executor):
    """Runs each call when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the call before returning; Ctrl-C during the call reaches the caller."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
