"""Errands: what pages need computed besides their visitors' runs, done once for all who ask."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from moe_sim.processes.calls import Caller, ProcessEnded
from moe_sim.processes.forker import NICE
from moe_sim.processes.nursery import Nursery

MOST_KNOWN = 1_000
"""Limit of the results that are kept."""

log = logging.getLogger(__name__)


class Errands:
    """Calls functions, one after the other, in a process of their own: a page that computed for a second itself would
    hold up all others. Results are kept and shared, so a function must depend on nothing but its arguments, which must
    be hashable. All methods may be called from any thread.

    Args:
        nursery: starts the process; None to compute in a thread of this process.
    """

    def __init__(self, nursery: Nursery | None) -> None:
        self._nursery = nursery
        self._caller: Caller | None = None
        self._results: dict[tuple[Any, ...], Future[Any]] = {}
        """The newest last."""
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = ThreadPoolExecutor(1, "errands")

    @property
    def waiting(self) -> int:
        """The number of calls that are not done."""
        with self._lock:
            return sum(not result.done() for result in self._results.values())

    def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Returns what the function returns; None as long as that is not known. Whoever wants it asks again."""
        result = self._result(function, args)
        return result.result() if result.done() and result.exception() is None else None

    def wait_for(self, function: Callable[..., Any], *args: Any) -> Any:
        """Returns what the function returns, or raises what it raises."""
        return self._result(function, args).result()

    def stop(self) -> None:
        """Ends the call in progress, if it has a process, and begins no other."""
        with self._lock:
            self._stopped = True
            if self._caller is not None:
                self._caller.stop()
        self._thread.shutdown(cancel_futures=True)
        self._forget_process()

    def _result(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
        with self._lock:
            key = (function, *args)
            result = self._results.get(key)
            if result is None or (result.done() and result.exception() is not None):  # another time it may succeed
                result = self._results[key] = self._thread.submit(self._compute, function, args)
                if len(self._results) > MOST_KNOWN:
                    del self._results[next(iter(self._results))]
            return result

    def _compute(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            if self._nursery is None:
                return function(*args)
            with self._lock:
                if self._stopped:
                    raise ProcessEnded("the server stops")
                if self._caller is None:
                    self._caller = Caller(self._nursery, "moe-errands", NICE)
                caller = self._caller
            return caller.call(function, *args)
        except ProcessEnded:
            self._forget_process()
            raise
        except Exception:
            log.exception("An errand failed")
            raise

    def _forget_process(self) -> None:
        with self._lock:
            if self._caller is not None:
                self._caller.close()
            self._caller = None
