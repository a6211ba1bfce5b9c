"""vLLM's routed experts (`--enable-return-routed-experts`): the experts of each token in each layer.

Read are an array (tokens, layers, k) of NumPy (`.npy`), as `CompletionOutput.routed_experts` has it, and responses of
the API as JSON or JSON lines, under `routed_experts` and `prompt_routed_experts`: nested lists in vLLM 0.21, a `.npy`
in base64 in later versions. −1 stands for a token whose experts are not known, because it came from the prefix cache.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from moe_sim.config.errors import InvalidInput
from moe_sim.tracing.importing.imported import (
    Counts,
    Imported,
    Options,
    array_of,
    check_size,
    counts_of_choices,
    lines_of,
)

_OTHER = "The routed experts in {} are not whole numbers of the shape (tokens, layers, k)."
KEYS = ("prompt_routed_experts", "routed_experts")
LARGEST_ARRAY = 2**28
"""Choices in one array."""
LARGEST_DOCUMENT = 2**27
"""Bytes of JSON that is spread over several lines."""


def read_routed_experts(path: Path, options: Options) -> Imported:
    """A file of routed experts. Each response is a step, or each `tokens_per_step` tokens. Layers that never route are
    left out: some versions of vLLM report dense layers too, with expert 0 for every choice.

    Raises:
        InvalidInput: with a sentence, if it is something else.
    """
    arrays = _array(path) if path.suffix.lower() == ".npy" else _responses(path)
    counts, step, layers, routes = Counts(), 0, 0, set[int]()
    for array in arrays:
        layers = layers or array.shape[1]
        if array.shape[1] != layers:
            raise InvalidInput(f"{path.name} has responses of {layers} and of {array.shape[1]} layers.")
        size = options.tokens_per_step or len(array)
        for begin in range(0, len(array), size):
            step += 1
            for layer in range(layers):
                choices = array[begin : begin + size, layer]
                choices = choices[(choices >= 0).any(1)]
                if not len(choices):
                    continue
                try:
                    chosen, tokens = counts_of_choices(choices)
                except ValueError:
                    raise InvalidInput(f"{path.name} has experts with impossible numbers.") from None
                counts.add(step, layer, chosen, tokens)
                if array.shape[2] == 1 or (choices > 0).any():
                    routes.add(layer)
    imported = counts.imported({layer: f"layers.{layer}" for layer in sorted(routes)}, "vLLM", options)
    if len(routes) < layers:
        imported.notices.append(f"{layers - len(routes)} of {layers} layers never route, and were left out.")
    return imported


def _array(path: Path) -> Iterator[np.ndarray]:
    try:
        array = np.load(path, mmap_mode="r")  # without pickles, which is the default
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or 'not an array').lower()}.") from None
    except Exception:  # of several kinds, for a header that makes no sense
        raise InvalidInput(f"{path.name} is not an array of NumPy.") from None
    if not isinstance(array, np.ndarray):  # several arrays in an archive
        array.close()
        raise InvalidInput(f"{path.name} is not an array of NumPy.")
    yield _checked(array, path.name)


def _responses(path: Path) -> Iterator[np.ndarray]:
    """An array for each response in a JSON document or in JSON lines."""
    try:
        check_size(path)
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or 'unknown error').lower()}.") from None
    documents = [line for line in lines_of(path) if line]
    if documents and not _is_json(documents[0]):
        documents = [b"\n".join(documents)]
        if len(documents[0]) > LARGEST_DOCUMENT:
            raise InvalidInput(f"{path.name} is larger than {LARGEST_DOCUMENT // 2**20} MB; write JSON lines.")
    for number, line in enumerate(documents, 1):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(documents) > 1:
                continue  # the last one is torn
            raise InvalidInput(f"{path.name} is neither JSON nor JSON lines.") from None
        for response in document if isinstance(document, list) else [document]:
            parts = list(_parts(response, path.name))
            if not parts:
                raise InvalidInput(f"A response in {path.name} has no routed_experts.")
            if len({part.shape[1:] for part in parts}) > 1:
                raise InvalidInput(f"A response in {path.name} has parts with different layers or k.")
            yield np.concatenate(parts)


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _parts(response: Any, name: str) -> Iterator[np.ndarray]:
    if not isinstance(response, dict):
        return
    choices = response.get("choices")
    for place in (response, *(choices if isinstance(choices, list) else ())):
        for key in KEYS:
            value = place.get(key) if isinstance(place, dict) else None
            if value:
                try:
                    array = _decoded(value) if isinstance(value, str) else array_of(value)
                except Exception:  # of several kinds, for a header that makes no sense
                    raise InvalidInput(_OTHER.format(name)) from None
                yield _checked(array, name)


def _decoded(text: str) -> np.ndarray:
    return np.load(BytesIO(b64decode(text, validate=True)))  # without pickles, which is the default


def _checked(array: Any, name: str) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "iu" or not array.size:
        raise InvalidInput(_OTHER.format(name))
    if array.size > LARGEST_ARRAY:
        raise InvalidInput(f"{name} has more than {LARGEST_ARRAY:,} choices; cut it into several files.")
    return array
