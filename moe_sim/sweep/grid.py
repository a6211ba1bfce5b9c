"""The runs of a sweep: every combination of values, each with several seeds."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from moe_sim.config.codec import parse_value, to_query
from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import KNOBS, problems
from moe_sim.config.run_config import RunConfig
from moe_sim.config.suggestions import unknown_knob

MOST_RUNS = 100_000
MOST_IN_RANGE = 1000
DIGITS = 3
"""Significant digits of the numbers in a range, so that links and tables stay short."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    config: RunConfig
    steps: int

    @cached_property
    def key(self) -> str:
        """Canonical text of everything that determines the run's result."""
        return "&".join(f"{name}={text}" for name, text in (*to_query(self.config).items(), ("steps", self.steps)))

    @property
    def run(self) -> str:
        """A short name; equal runs have equal names everywhere."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some knobs × seeds.

    Raises:
        InvalidInput: if the seeds, the steps or the number of runs are out of range.
    """

    base: RunConfig
    axes: dict[str, tuple[Any, ...]]
    """Values by knob; they replace the base's."""
    seeds: int
    """Number of seeds, counting up from the base's; 1 if the seed is an axis."""
    steps: int

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.steps < 1:
            raise InvalidInput("A sweep needs at least one seed and one step.")
        if "seed" in self.axes and self.seeds != 1:
            raise InvalidInput("Give either values for seed or a number of seeds, not both.")
        if self.base.seed + self.seeds - 1 > KNOBS["seed"].maximum:  # type: ignore[operator]
            raise InvalidInput(f"The last seed would be above {KNOBS['seed'].maximum:.0f}.")
        runs = self.seeds * math.prod(len(values) for values in self.axes.values())
        if runs > MOST_RUNS:
            raise InvalidInput(f"That would be {runs:,} runs; a sweep has at most {MOST_RUNS:,}.")

    def cells(self) -> tuple[Cell, ...]:
        """Every valid run, each once; the seeds of a combination are adjacent."""
        cells = {}
        for combination, _ in self._combinations():
            for config in self._seeded(combination) if combination else ():
                cell = Cell(config, self.steps)
                cells[cell.key] = cell
        return tuple(cells.values())

    def left_out(self) -> dict[str, int]:
        """Number of invalid runs by reason, such as a top-k above the number of experts."""
        reasons = Counter(reason for _, reason in self._combinations() if reason)
        return {reason: count * self.seeds for reason, count in reasons.items()}

    def _combinations(self) -> Iterator[tuple[RunConfig | None, str | None]]:
        for values in itertools.product(*self.axes.values()):
            try:
                yield self.base.replace(**dict(zip(self.axes, values, strict=True))), None
            except ValidationError as error:
                yield None, next(iter(problems(error).values()))

    def _seeded(self, config: RunConfig) -> Iterator[RunConfig]:
        """The combination with each seed; `__post_init__` has checked their range."""
        return (config.model_copy(update={"seed": config.seed + i}) for i in range(self.seeds))


def parse_values(name: str, text: str) -> tuple[Any, ...]:
    """Parse a list of values of a knob: `0,0.01,0.1`, and ranges `2..8` (all whole numbers), `0..1:5` (5 values, evenly
    spaced) and `0.001..1:4:log` (geometric).

    Raises:
        InvalidInput: naming the knob and what is allowed.
    """
    if name not in KNOBS:
        raise InvalidInput(unknown_knob(name, KNOBS))
    values: list[Any] = []
    for part in text.split(","):
        values += _parse_part(name, part.strip())
        if len(values) > MOST_RUNS:
            raise InvalidInput(f"{_what(name)} has more than {MOST_RUNS:,} values.")
    return tuple(dict.fromkeys(values))


def _parse_part(name: str, part: str) -> list[Any]:
    low_text, dots, rest = part.partition("..")
    if not dots or KNOBS[name].kind not in (int, float):
        return [_valid(name, part)]
    high_text, *how = rest.split(":")
    low, high = _valid(name, low_text), _valid(name, high_text)
    if low is None or high is None or low > high:
        raise InvalidInput(f"{_what(name)} has a range {part[:40]!r} that does not go from a lower to a higher number.")
    if not how:
        if KNOBS[name].kind is float:
            raise InvalidInput(f"{_what(name)} needs a number of values in its range, as in {part[:40]}:5.")
        if high - low >= MOST_RUNS:
            raise InvalidInput(f"{_what(name)} has a range {part[:40]!r} of more than {MOST_RUNS:,} values.")
        return list(range(low, high + 1))
    return [_valid(name, str(_rounded(name, number))) for number in _spread(name, part, low, high, how)]


def _spread(name: str, part: str, low: float, high: float, how: list[str]) -> list[float]:
    """Evenly or geometrically spaced numbers from `low` to `high`."""
    count, *scale = how
    if not (count.isascii() and count.isdigit() and len(count) <= 4 and 2 <= int(count) <= MOST_IN_RANGE):
        raise InvalidInput(f"{_what(name)} needs 2 to {MOST_IN_RANGE} values in its range, not {count[:40]!r}.")
    if scale not in ([], ["log"]):
        raise InvalidInput(f"{_what(name)} has a range {part[:40]!r}, not LOW..HIGH:COUNT or LOW..HIGH:COUNT:log.")
    if scale and low <= 0:
        raise InvalidInput(f"{_what(name)} has a logarithmic range, which must start above 0, not at {low:g}.")
    shares = [i / (int(count) - 1) for i in range(int(count))]
    if scale:
        return [low * (high / low) ** share for share in shares]
    return [low + (high - low) * share for share in shares]


def _rounded(name: str, number: float) -> float | int:
    return round(number) if KNOBS[name].kind is int else float(f"{number:.{DIGITS}g}")


def _valid(name: str, text: str) -> Any:
    """One value, as `RunConfig` reads it. The other knobs are set so that every value of this one is allowed."""
    try:
        config = RunConfig(**{"num_experts": 64, "top_k": 2, name: parse_value(name, text)})
    except ValidationError as error:
        raise InvalidInput(problems(error)[name]) from None
    return getattr(config, name)


def _what(name: str) -> str:
    return f"{KNOBS[name].label} ({name})"
