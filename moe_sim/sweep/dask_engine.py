"""Runs a sweep on a Dask cluster. TLS, timeouts and the like belong in Dask's own configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moe_sim.config.extras import require
from moe_sim.sweep.engine import Engine, EngineError, EngineSession
from moe_sim.sweep.worker import sentence_of
from moe_sim.version import __version__

if TYPE_CHECKING:
    from distributed import Client

TIMEOUT = 10
"""Timeout in seconds for the scheduler to answer and for its first worker to appear."""
LOST = "The Dask cluster no longer answers."


@dataclass(frozen=True)
class Dask(Engine):
    """A cluster that the operator runs."""

    address: str
    """The scheduler's address. Only the operator may know it, so no message repeats it."""
    name: str = "dask"

    def open(self, cancelled: Callable[[], bool]) -> EngineSession:
        """See `Engine`."""
        require("distributed", "The engine dask")
        try:
            client = _connect(self.address)
        except (OSError, ValueError):
            raise EngineError("No Dask scheduler answers at the address in MOE_SIM_DASK.") from None
        try:
            _check_scheduler(client)
            _check_workers(client)
            return _DaskSession(client)
        except BaseException as error:
            client.close()
            if isinstance(error, OSError):  # its text names the address
                raise EngineError(LOST) from None
            raise


class _DaskSession(EngineSession):
    def __init__(self, client: Client) -> None:
        from distributed import Event, KilledWorker

        self._client, self._killed_worker = client, KilledWorker
        self._stop = Event(client=client)
        self.executor = client.get_executor(pure=False)  # Dask would run equal pure calls only once
        self.window = 2 * sum(client.nthreads().values())
        self.stopped = self._stop.is_set

    def stop(self) -> None:
        # Shutdown drops queued calls; running ones continue until they check the event.
        try:
            self._stop.set()
            self.executor.shutdown(wait=False)
        except (OSError, RuntimeError):
            pass  # the scheduler is gone, so nothing waits for the runs
        finally:
            self._client.close()

    def close(self) -> None:
        self._client.close()

    def worker_ended(self, error: BaseException) -> bool:
        return isinstance(error, self._killed_worker) or super().worker_ended(error)


def _connect(address: str) -> Client:
    """A client that leaves nothing behind, however it ends.

    Raises:
        OSError: if no scheduler answers.
        ValueError: for an address that cannot be one.
    """
    from distributed import Client

    class ClosingClient(Client):
        """Dask's own client keeps its event loop's thread and its files if it cannot start, and if it has closed itself
        because the scheduler went away. The former closes when it is collected, and needs a lock for that: if another
        client is starting then, which holds the lock, neither goes on."""

        def start(self, **options: object) -> None:
            try:
                super().start(**options)
            except BaseException:
                self.close()
                raise

        def close(self, *args: object, **options: object) -> None:
            try:
                super().close(*args, **options)
            finally:
                if self._loop_runner.is_started():
                    self._loop_runner.stop()

    return ClosingClient(address, timeout=TIMEOUT, set_as_default=False)


def versions() -> str:
    """What a process computes with. An answer also shows that it has this program."""
    return f"moe_sim {__version__} with torch {torch.__version__}"


def _check_scheduler(client: Client) -> None:
    """Check that the scheduler can unpickle the runs that it passes on.

    Raises:
        EngineError: if it lacks this program.
    """
    try:
        client.run_on_scheduler(versions)
    except Exception as error:
        raise _failed("The Dask scheduler", error) from None


def _check_workers(client: Client) -> None:
    """Check that there are workers, and that each has the torch version of this machine: with another one, numbers
    differ.

    Raises:
        EngineError: if there are none, or one lacks this program or has another version of it or of torch.
    """
    try:
        client.wait_for_workers(1, timeout=TIMEOUT)
    except TimeoutError:
        raise EngineError("The Dask cluster has no workers.") from None
    try:
        found = set(client.run(versions).values())
    except Exception as error:
        raise _failed("A worker of the Dask cluster", error) from None
    if found != {versions()}:
        raise EngineError(f"The Dask cluster's workers have {', '.join(sorted(found))}; this machine has {versions()}.")


def _failed(process: str, error: Exception) -> EngineError:
    """The sentence for an error of a process that was asked for its versions: whatever its import raised, unless the
    connection is lost, whose errors name the address."""
    is_lost = isinstance(error, OSError) and "://" in str(error)
    return EngineError(LOST if is_lost else f"{process} cannot import moe_sim ({sentence_of(error)}).")
