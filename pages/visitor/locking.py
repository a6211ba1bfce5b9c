"""Acting on a session in turn, whichever script run or callback comes first."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def synchronized(act: Callable[..., Any]) -> Callable[..., Any]:
    """A method that waits for whoever holds the object's `acting` lock."""

    @wraps(act)
    def turn(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.acting:
            return act(self, *args, **kwargs)

    return turn
