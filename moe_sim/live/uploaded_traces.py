"""Traces that visitors have opened from files of their own, within limits for each and for all together."""

from __future__ import annotations

import threading
from pathlib import Path
from weakref import WeakSet

from moe_sim.config.errors import InvalidInput
from moe_sim.history.trace import TraceHistory

LARGEST_UPLOAD = 20
"""MB. The browser checks this limit, and `open` does so again, since there are other clients."""
MOST_BYTES = 2**26
"""Memory that one may take."""
MOST_OF_ALL = 2**28
"""Memory that all together may take. They are forgotten with the sessions that hold them."""
LONGEST_NAME = 80
"""Characters of a file name to show."""


class UploadedTraces:
    """Reads uploads, and knows how much memory those take that are still in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: WeakSet[TraceHistory] = WeakSet()

    def open(self, name: str, content: bytes) -> TraceHistory:
        """Reads the content of a file.

        Raises:
            InvalidInput: with a sentence, if it is not a trace or too large, or all together are.
        """
        name = name[-LONGEST_NAME:]
        if len(content) > LARGEST_UPLOAD * 1_000_000:
            raise InvalidInput(f"{name} is too large. The limit is {LARGEST_UPLOAD} MB.")
        with self._lock:
            if sum(one.nbytes for one in self._held) > MOST_OF_ALL - MOST_BYTES:
                raise InvalidInput("There is no room for more uploaded traces now. Try again later.")
            history = TraceHistory(Path(name), MOST_BYTES, content)
            self._held.add(history)
        if history.truncated:
            raise InvalidInput(f"{name} needs more memory than the {MOST_BYTES // 2**20} MB that an upload may take.")
        return history
