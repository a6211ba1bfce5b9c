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


def power_of_ten(exponent: int) -> str:
    """“1”, “10”, “100”, “1k” … “1M”, as a tick of a log axis."""
    thousands = min(exponent // 3, 4)
    return f"{10 ** (exponent - 3 * thousands)}{('', 'k', 'M', 'G', 'T')[thousands]}"


def plural(count: int, noun: str) -> str:
    """“1 layer”, “1,000 layers”."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def short_names(names: list[str]) -> list[str]:
    """Names without what all begin and end with, but with whole numbers and words: model.layers.3.mlp → layers.3."""
    if len(names) < 2:
        return [name if len(name) <= 24 else f"…{name[-23:]}" for name in names]
    parts = [name.split(".") for name in names]
    begin = _common(parts)
    end = _common([part[begin:][::-1] for part in parts])
    begin = max(0, begin - 1)  # one word before the first difference
    short = [".".join(part[begin : len(part) - end]) for part in parts]
    return short if all(short) and len(set(short)) == len(names) else names


def _common(parts: list[list[str]]) -> int:
    """How many words all begin with."""
    differing = (place for place, words in enumerate(zip(*parts, strict=False)) if len(set(words)) > 1)
    return next(differing, min(map(len, parts)))
