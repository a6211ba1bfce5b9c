"""Workers of a Dask cluster. TLS, timeouts and the like are set where Dask itself is configured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moe_sim.sweep.engine import Engine, EngineError, Session
from moe_sim.sweep.worker import sentence_of

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 10
"""Seconds for the scheduler to answer and for its first worker to be there."""


@dataclass(frozen=True)
class Dask(Engine):
    """A cluster that somebody else started."""

    address: str
    """Of the scheduler. It is the operator's to know: no message repeats it."""
    name: str = "dask"

    def open(self, cancelled: Callable[[], bool]) -> Session:
        """See `Engine`."""
        try:
            import distributed
        except ImportError:
            raise EngineError("The engine dask needs a package: pip install distributed.") from None
        try:
            client = distributed.Client(self.address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError):
            raise EngineError("No Dask scheduler answers at the address in MOE_SIM_DASK.") from None
        try:
            _check_workers(client)
            return _DaskSession(client)
        except BaseException:
            client.close()
            raise


class _DaskSession(Session):
    def __init__(self, client: Client) -> None:
        from distributed import Event, KilledWorker

        self._client, self._killed_worker = client, KilledWorker
        self._stop = Event(client=client)
        self.executor = client.get_executor(pure=False)  # pure calls that are equal would be done once
        self.window = 2 * sum(client.nthreads().values())
        self.stopped = self._stop.is_set

    def stop(self) -> None:
        # Cancelling forgets what waits; what runs goes on until it looks at the event.
        try:
            self._stop.set()
            self.executor.shutdown(wait=False)
        except (OSError, RuntimeError):
            pass  # the scheduler is gone, and with it whoever would wait for the runs
        finally:
            self._client.close()

    def close(self) -> None:
        self._client.close()

    def worker_ended(self, error: BaseException) -> bool:
        return isinstance(error, self._killed_worker) or super().worker_ended(error)


def torch_version() -> str:
    """Asked of each worker; that it can answer shows that it has this program."""
    return str(torch.__version__)


def _check_workers(client: Client) -> None:
    """See that there are workers, and that each would compute the same numbers as this machine.

    Raises:
        EngineError: if not.
    """
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise EngineError("The Dask cluster has no workers.") from None
    try:
        versions = set(client.run(torch_version).values())
    except Exception as error:  # whatever importing this program raised over there
        raise EngineError(f"A worker of the Dask cluster cannot import moe_sim ({sentence_of(error)}).") from None
    if versions != {torch_version()}:
        there = ", ".join(sorted(versions))
        raise EngineError(f"The Dask cluster's workers have torch {there}, this machine has {torch_version()}.")
