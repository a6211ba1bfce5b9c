"""The file format of traces: who was routed where in a model that was watched. See README.md of this folder.

L layers, E experts of a layer, C cells: all experts of all layers, layer after layer. G groups of tokens.
"""

from __future__ import annotations

import binascii
import json
import math
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from moe_sim.config.errors import InvalidInput

FORMAT = "moe-routing-trace"
VERSION = 1
FILE_NAME = "trace.jsonl"
MOST_LAYERS = 1_024
MOST_CELLS = 262_144
MOST_GROUPS = 64
MOST_NUMBERS = 64
"""Different numbers that a trace may log beside the routing."""
LONGEST_NAME = 200
LARGEST_STEP = 2**53
LARGEST_NUMBER = 1e300
TYPES = {"u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "u8": np.uint64, "f4": np.float32}
"""The element types of arrays, little-endian."""

Scores = Literal["", "logits", "sigmoid", "probabilities", "scores"]
Setting = float | int | str | bool | None


class NotATraceError(InvalidInput):
    """A file is not a trace, or one of another version."""


class InvalidLineError(ValueError):
    """A line of a trace is torn or damaged. Only it is lost."""


@dataclass(frozen=True)
class TracedLayer:
    """A layer that routes."""

    name: str
    """The name of its module in the model."""
    num_experts: int
    scores: Scores = ""
    """What its router offers: logits of a softmax or a sigmoid, probabilities, scores that do not sum to 1, nothing."""


@dataclass(frozen=True)
class TraceHeader:
    """What a trace is about."""

    layers: tuple[TracedLayer, ...]
    model: str = ""
    """The class of the model."""
    framework: str = ""
    """The software that the model belongs to, with its version."""
    settings: dict[str, Setting] = field(default_factory=dict)
    """The model's own settings that concern routing, by the names that the framework gives them."""
    groups: tuple[str, ...] = ()
    """Names of the groups of tokens, if they were given."""
    every: int = 1
    """Every how many steps there is a record."""

    @cached_property
    def offsets(self) -> np.ndarray:
        """(L + 1,) where the cells of each layer begin, and the end."""
        return np.concatenate([[0], np.cumsum([layer.num_experts for layer in self.layers])])

    @property
    def num_cells(self) -> int:
        """C."""
        return int(self.offsets[-1])


@dataclass(frozen=True)
class Routed:
    """What was routed since the last record. What no router offers is None."""

    tokens: np.ndarray
    """(L,) tokens."""
    counts: np.ndarray
    """(C,) token choices of each expert."""
    importance: np.ndarray | None = None
    """(C,) mean router probability; NaN in layers whose router offers none."""
    entropy: np.ndarray | None = None
    """(L,) mean over tokens of −Σ p ln p / ln E."""
    logit_rms: np.ndarray | None = None
    """(L,) root mean square of the router's logits."""
    logit_max: np.ndarray | None = None
    """(L,) largest absolute logit."""
    groups: np.ndarray | None = None
    """(G, C) token choices by group of tokens."""


@dataclass(frozen=True)
class TraceRecord:
    """One line of a trace. Numbers may come later than the routing of their step, on a line of their own."""

    step: int
    training: Routed | None = None
    evaluation: Routed | None = None
    numbers: dict[str, float] = field(default_factory=dict)


def header_line(header: TraceHeader) -> bytes:
    """The first line of a trace; each run that continues a trace begins with the same."""
    document = {
        "format": FORMAT, "version": VERSION, "model": header.model, "framework": header.framework,
        "settings": header.settings, "groups": header.groups, "every": header.every,
        "layers": [
            {"name": layer.name, "experts": layer.num_experts, "scores": layer.scores} for layer in header.layers
        ],
    }  # fmt: skip
    return _line(document)


def record_line(record: TraceRecord) -> bytes:
    """A record as a line."""
    document: dict[str, Any] = {"step": record.step}
    for name in ("training", "evaluation"):
        routed: Routed | None = getattr(record, name)
        if routed is not None:
            document[name] = _routed_document(routed)
    if record.numbers:
        document["numbers"] = {name: _finite(value) for name, value in record.numbers.items()}
    return _line(document)


def read_header(line: bytes) -> TraceHeader:
    """The inverse of `header_line`.

    Raises:
        NotATraceError: with a sentence, if the line is not the header of a trace that this version can read.
    """
    document = _object(line)
    if document is None or document.get("format") != FORMAT:
        raise NotATraceError("This is not a trace: its first line does not say so.")
    if document.get("version") != VERSION:
        raise NotATraceError(f"This trace has version {str(document.get('version'))[:20]!r}; only {VERSION} is known.")
    try:
        layers = tuple(
            TracedLayer(_name(one["name"]), _whole(one["experts"], 2, MOST_CELLS), _scores(one.get("scores", "")))
            for one in _list(document["layers"], MOST_LAYERS)
        )
        header = TraceHeader(
            layers, _name(document.get("model", "")), _name(document.get("framework", "")),
            _settings(document.get("settings", {})),
            tuple(_name(one) for one in _list(document.get("groups", []), MOST_GROUPS)),
            _whole(document.get("every", 1), 1, LARGEST_STEP),
        )  # fmt: skip
    except (KeyError, TypeError, InvalidLineError):
        raise NotATraceError("The first line of this trace is damaged.") from None
    if not layers or header.num_cells > MOST_CELLS:
        raise NotATraceError(f"A trace must have a layer, and at most {MOST_CELLS:,} experts in all layers together.")
    return header


def is_header(line: bytes) -> bool:
    """Whether a line is a header, of whatever version."""
    return line.startswith(b'{"format":')


def read_record(line: bytes, header: TraceHeader) -> TraceRecord:
    """The inverse of `record_line`.

    Raises:
        InvalidLineError: if the line is torn or damaged.
    """
    document = _object(line)
    if document is None:
        raise InvalidLineError
    try:
        numbers = document.get("numbers", {})
        if not isinstance(numbers, dict) or len(numbers) > MOST_NUMBERS:
            raise InvalidLineError
        return TraceRecord(
            _whole(document["step"], 0, LARGEST_STEP),
            _routed(document.get("training"), header),
            _routed(document.get("evaluation"), header),
            {_name(name): _number(value) for name, value in numbers.items()},
        )
    except (KeyError, TypeError, AttributeError):
        raise InvalidLineError from None


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _routed_document(routed: Routed) -> dict[str, Any]:
    document: dict[str, Any] = {"tokens": routed.tokens.tolist(), "counts": _packed(_smallest(routed.counts))}
    for name in ("entropy", "logit_rms", "logit_max"):
        if (values := getattr(routed, name)) is not None:
            document[name] = [_finite(value) for value in values.tolist()]
    if routed.importance is not None:
        document["importance"] = _packed(routed.importance.astype(np.float32))
    if routed.groups is not None:
        document["groups"] = _packed(_smallest(routed.groups))
    return document


def _routed(document: Any, header: TraceHeader) -> Routed | None:
    if document is None:
        return None
    layers, cells = len(header.layers), header.num_cells
    per_layer = {name: _numbers(document.get(name), layers) for name in ("entropy", "logit_rms", "logit_max")}
    importance, groups = document.get("importance"), document.get("groups")
    return Routed(
        tokens=np.array([_whole(value, 0, LARGEST_STEP) for value in _list(document["tokens"], layers, layers)]),
        counts=_unpacked(document["counts"], cells, "u"),
        importance=None if importance is None else _unpacked(importance, cells, "f"),
        groups=None
        if groups is None or not header.groups
        else _unpacked(groups, len(header.groups) * cells, "u").reshape(-1, cells),
        **per_layer,
    )


def _smallest(counts: np.ndarray) -> np.ndarray:
    """Counts in the smallest type that holds them."""
    most = int(counts.max(initial=0))
    return counts.astype(
        next(kind for kind in (np.uint8, np.uint16, np.uint32, np.uint64) if most <= np.iinfo(kind).max)
    )


def _packed(values: np.ndarray) -> str:
    """An array as its type, a colon, and its compressed bytes in base64."""
    kind = f"{values.dtype.kind}{values.dtype.itemsize}"
    return f"{kind}:{b64encode(zlib.compress(values.astype(values.dtype.newbyteorder('<')).tobytes(), 1)).decode()}"


def _unpacked(text: Any, length: int, family: str) -> np.ndarray:
    kind, colon, packed = text.partition(":")
    if not colon or kind not in TYPES or kind[0] != family:
        raise InvalidLineError
    dtype = np.dtype(TYPES[kind]).newbyteorder("<")
    expected = length * dtype.itemsize
    try:
        # One byte more than fits tells that there is more; no small text can unpack to a large array.
        content = zlib.decompressobj().decompress(b64decode(packed, validate=True), expected + 1)
    except (binascii.Error, zlib.error, ValueError):
        raise InvalidLineError from None
    if len(content) != expected:
        raise InvalidLineError
    return np.frombuffer(content, dtype)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: Any) -> float:
    """A number; what JSON cannot say was not finite."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST_NUMBER:
        raise InvalidLineError
    return float(value)


def _numbers(values: Any, length: int) -> np.ndarray | None:
    if values is None:
        return None
    known = np.array(_list(values, length, length))
    if known.dtype.kind == "f" and known.ndim == 1 and (np.abs(known) <= LARGEST_NUMBER).all():
        return known  # the usual case, fast
    return np.array([_number(value) for value in values])


def _whole(value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidLineError
    return value


def _list(values: Any, most: int, least: int = 0) -> list[Any]:
    if not isinstance(values, list) or not least <= len(values) <= most:
        raise InvalidLineError
    return values


def _name(text: Any) -> str:
    if not isinstance(text, str) or len(text) > LONGEST_NAME or any("\ud800" <= one <= "\udfff" for one in text):
        raise InvalidLineError  # lone surrogates are no text: no file could hold them
    return text


def _scores(text: Any) -> Scores:
    if text not in get_args(Scores):
        raise InvalidLineError
    known: Scores = text
    return known


def _settings(settings: Any) -> dict[str, Setting]:
    if not isinstance(settings, dict) or len(settings) > MOST_NUMBERS:
        raise InvalidLineError
    for name, value in settings.items():
        if value is not None and not isinstance(value, int | float | str | bool):
            raise InvalidLineError
        _name(name)
        if isinstance(value, str):
            _name(value)
    return settings
