"""Messages for pages without the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from moe_sim.live.background_run import BackgroundRun

OVERLAP = 5
"""Number of messages that contain each step, in case the browser skips one."""


class Feed:
    """Remembers where the last messages ended."""

    def __init__(self) -> None:
        self._ends: deque[int] = deque(maxlen=OVERLAP)

    def next(self, run: BackgroundRun, encode: Callable[[int], tuple[int, str]]) -> str:
        """Returns the next message. `encode` takes its first step and returns the step where it stops and its text."""
        run.touch()
        stop, message = encode(self._ends[0] if len(self._ends) == OVERLAP else 0)
        self._ends.append(stop)
        return message

    def restart(self) -> None:
        """Makes the next message contain all steps."""
        self._ends.clear()
