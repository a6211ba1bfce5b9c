"""Creating runs, which may need more memory than the machine has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pages.text.notices import Notices

T = TypeVar("T")

NO_MEMORY = "This machine does not have enough memory for that. Use fewer or smaller experts."


def or_notice_out_of_memory(make: Callable[[], T], notices: Notices) -> T | None:
    """Returns `make()`, or None and adds a notice if memory runs out, which torch reports as a RuntimeError."""
    try:
        return make()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        notices.append(NO_MEMORY)
        return None
