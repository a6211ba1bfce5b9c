"""Values and shares as words, written alike wherever they are shown."""

from __future__ import annotations

import math
from typing import Any

from moe_sim.config.codec import format_value


def value_in_words(value: Any) -> str:
    """A knob's value as it is shown: `expert choice`, not `expert_choice`; 1,024, not 1024."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return format_value(value).replace("_", " ")


def percent(share: float) -> str:
    """A share in whole percent; – if it is not finite."""
    return f"{100 * share:.0f}\u00a0%" if math.isfinite(share) else "–"


def plural(count: int, noun: str) -> str:
    """“1 layer”, “1,000 layers”."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
