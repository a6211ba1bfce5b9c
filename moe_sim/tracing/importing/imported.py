"""What the readers of other tools' files have in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from moe_sim.config.errors import InvalidInput
from moe_sim.config.words import plural
from moe_sim.history.trace_format import (
    LARGEST_STEP,
    LONGEST_NAME,
    MOST_CELLS,
    MOST_LAYERS,
    Routed,
    Setting,
    TracedLayer,
    TraceHeader,
    TraceRecord,
)

MOST_COUNTS = 40_000_000
"""Steps times experts of all layers that can be imported at once: 320 MB."""
LARGEST_FILE = 2**30
"""Bytes of a file that is read as a whole."""
LONGEST_LINE = 2**25
LARGEST_TOTAL = 2**53
"""Token choices of a whole file; sums below it cannot overflow."""
Place = tuple[int, Hashable]
"""A step and a layer."""


@dataclass(frozen=True)
class Options:
    """What a file does not say of itself."""

    num_experts: int | None = None
    """Experts of each layer; None to take those that occur."""
    expert_parallel: int = 1
    """Over how many processes the experts of a layer are spread."""
    tokens_per_step: int | None = None
    """How many tokens make a record, where a file has no steps; None for all of a response."""


@dataclass
class Imported:
    """The content of a file of another tool, as a trace."""

    header: TraceHeader
    records: list[TraceRecord]
    notices: list[str] = field(default_factory=list)
    """What the user should know, in sentences."""


class Counts:
    """Token choices by step, layer and expert, in whatever order they come."""

    def __init__(self) -> None:
        self._counts: dict[Place, np.ndarray] = {}
        self._tokens: dict[Place, int] = {}
        self._size = 0
        self._choices = 0

    def add(self, step: int, layer: Hashable, counts: np.ndarray, tokens: int) -> None:
        """Adds (E,) counts, of however many experts.

        Raises:
            InvalidInput: if there is no such step, or there are too many counts or choices.
        """
        if not 0 <= step <= LARGEST_STEP:
            raise InvalidInput(f"There is no step {step}.")
        self._choices += int(counts.sum())
        if self._choices > LARGEST_TOTAL:
            raise InvalidInput(f"There are more than {LARGEST_TOTAL:,} token choices.")
        known = self._counts.get((step, layer), np.zeros(0, np.int64))
        if len(counts) > len(known):
            self._size += len(counts) - len(known)
            known = np.concatenate([known, np.zeros(len(counts) - len(known), np.int64)])
        if self._size > MOST_COUNTS:
            raise InvalidInput(f"There are more than {MOST_COUNTS:,} counts; import fewer steps at once.")
        known[: len(counts)] += counts
        self._counts[step, layer] = known
        self._tokens[step, layer] = self._tokens.get((step, layer), 0) + tokens

    def imported(
        self, names: Mapping[Any, str], framework: str, options: Options, settings: Mapping[str, Setting] | None = None
    ) -> Imported:
        """All of it as a trace.

        Args:
            names: of the layers, in their order.
            framework: the tool that wrote the file.
            options: for the number of experts.
            settings: of the model.

        Raises:
            InvalidInput: if there is nothing, or what a trace cannot hold.
        """
        if not self._counts:
            raise InvalidInput("There is no routing in it.")
        seen = max(len(counts) for counts in self._counts.values())
        experts = options.num_experts or max(seen, 2)
        if seen > experts:
            raise InvalidInput(
                f"It has an expert number {seen - 1}, so there cannot be only {plural(experts, 'expert')}."
            )
        if experts < 2:
            raise InvalidInput("A layer that routes has at least 2 experts, not 1.")
        if not all(name.isprintable() for name in names.values()):
            raise InvalidInput("The name of a layer has characters that cannot be printed.")
        if len(names) > MOST_LAYERS or len(names) * experts > MOST_CELLS:
            raise InvalidInput(f"A trace holds at most {MOST_CELLS:,} experts of {MOST_LAYERS:,} layers.")
        layers = tuple(TracedLayer(name[:LONGEST_NAME], experts) for name in names.values())
        records = []
        steps = sorted({step for step, _ in self._counts})
        if len(steps) * len(layers) * experts > MOST_COUNTS:
            raise InvalidInput(f"There are more than {MOST_COUNTS:,} counts; import fewer steps at once.")
        for step in steps:
            counts = np.zeros((len(layers), experts), np.int64)
            for index, layer in enumerate(names):
                known = self._counts.get((step, layer), np.zeros(0, np.int64))
                counts[index, : len(known)] = known
            tokens = np.array([self._tokens.get((step, layer), 0) for layer in names])
            records.append(TraceRecord(step, Routed(tokens, counts.ravel())))
        notices = []
        if options.num_experts is None:
            notices.append(
                f"The file does not say how many experts there are; the highest number is {seen - 1}. If there are "
                "more, say so with --experts, or dead ones are missing."
            )
        return Imported(TraceHeader(layers, "", framework, dict(settings or {})), records, notices)


def files_in(path: Path, pattern: str) -> list[Path]:
    """A file, or the files in a folder whose names fit.

    Raises:
        InvalidInput: if there is none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(pattern))
    if not files:
        raise InvalidInput(f"There is no {pattern} in {path}.")
    return files


def check_size(path: Path) -> None:
    """Checks that a file can be read as a whole.

    Raises:
        InvalidInput: if it is too large.
        OSError: if there is none.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidInput(f"{path.name} is larger than {LARGEST_FILE // 2**20:,} MB.")


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, without their ends.

    Raises:
        InvalidInput: if the file cannot be read, or a line is far too long.
    """
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE:
                    raise InvalidInput(f"{path.name} has a line of more than {LONGEST_LINE:,} bytes.")
                yield line.rstrip()
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or 'unknown error').lower()}.") from None


def whole_number(value: Any, least: int = 0, most: int = LARGEST_STEP) -> int:
    """A whole number from a document.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError
    return value


def array_of(value: Any) -> np.ndarray:
    """Nested lists of whole numbers as an array. Their types are looked at first: NumPy would make a huge array of one
    long text among short ones.

    Raises:
        ValueError: if they are something else.
    """
    flat = value
    while isinstance(flat, list) and flat and isinstance(flat[0], list):
        if not all(isinstance(one, list) for one in flat):
            raise ValueError
        flat = list(chain.from_iterable(flat))
    if not isinstance(flat, list) or {*map(type, flat)} != {int}:
        raise ValueError
    return np.asarray(value)


def counts_of_choices(choices: Any) -> tuple[np.ndarray, int]:
    """(T, K) choices → (E,) counts of the experts that occur, and T. Negative choices mean none.

    Raises:
        ValueError: if they are no rows of whole numbers, or an expert has a number beyond all reason.
    """
    array = choices if isinstance(choices, np.ndarray) else array_of(choices)
    if array.ndim != 2 or array.dtype.kind not in "iu" or not array.size or int(array.max()) >= MOST_CELLS:
        raise ValueError
    chosen = array.ravel().astype(np.int64)
    return np.bincount(chosen[chosen >= 0]), len(array)


def in_order(layers: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Layers by their numbers, where some may be None."""
    return sorted(set(layers), key=lambda layer: [(part is not None, part) for part in layer])
