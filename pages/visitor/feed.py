"""What a page that is fed without the stream was told so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from moe_sim.live.background_run import BackgroundRun

OVERLAP = 5
"""In so many messages a step is told."""


class Feed:
    """Remembers where the last messages ended."""

    def __init__(self) -> None:
        self._told: deque[int] = deque(maxlen=OVERLAP)

    def next(self, run: BackgroundRun, encode: Callable[[int], tuple[int, str]]) -> str:
        """What `run` did lately. Each step is in several messages, in case the browser skips one."""
        run.touch()
        stop, message = encode(self._told[0] if len(self._told) == OVERLAP else 0)
        self._told.append(stop)
        return message

    def restart(self) -> None:
        """Tell everything again."""
        self._told.clear()
