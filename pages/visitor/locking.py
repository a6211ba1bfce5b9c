"""A lock around methods that script runs and callbacks may call at the same time."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def synchronized(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a method so that it holds the object's lock `acting`."""

    @wraps(method)
    def locked(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.acting:
            return method(self, *args, **kwargs)

    return locked
