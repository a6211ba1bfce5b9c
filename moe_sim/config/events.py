"""A change of live knobs during a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Live knobs changed after `step` steps."""

    step: int
    changes: dict[str, Any]
