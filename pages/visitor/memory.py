"""Creating runs, which may need more memory than the machine has, or a text that is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from moe_sim.config.errors import InvalidInput
from pages.text.notices import Notices

T = TypeVar("T")

NO_MEMORY = "This machine does not have enough memory for that. Use fewer or smaller experts."


def or_notice_out_of_memory(make: Callable[[], T], notices: Notices) -> T | None:
    """Returns `make()`, or None and adds a notice if memory runs out, which torch reports as a RuntimeError, or if the
    run is not possible for a reason that is a sentence."""
    try:
        return make()
    except InvalidInput as error:
        notices.append(str(error))
        return None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        notices.append(NO_MEMORY)
        return None
