"""Making runs, for which a machine may not have the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

NO_MEMORY = "This machine does not have the memory for that. Fewer experts, or smaller ones, need less."


def or_notice_out_of_memory(make: Callable[[], T], notices: list[str]) -> T | None:
    """What `make` gives; None, with a notice, if there is no memory for it. Torch says so with a RuntimeError."""
    try:
        return make()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        notices.append(NO_MEMORY)
        return None
