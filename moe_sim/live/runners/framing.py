"""Messages between the server and its worker processes: a JSON header and arrays. Unlike pickles, they hold no code."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

_LENGTHS = struct.Struct("!IQ")


def write(stream: IO[bytes], header: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Sends a message.

    Raises:
        OSError: if the reader is gone.
    """
    shapes = [(array.dtype.str, array.shape) for array in arrays]
    text = json.dumps({"header": header, "arrays": shapes}).encode()
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    stream.write(_LENGTHS.pack(len(text), len(body)) + text + body)
    stream.flush()


def read(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Waits for a message and returns its header and arrays.

    Raises:
        EOFError: if the stream has ended.
    """
    text_length, body_length = _LENGTHS.unpack(_read_exactly(stream, _LENGTHS.size))
    message = json.loads(_read_exactly(stream, text_length))
    body, arrays, start = _read_exactly(stream, body_length), [], 0
    for dtype, shape in message["arrays"]:
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(body, dtype, count, start).reshape(shape))
        start += arrays[-1].nbytes
    return message["header"], arrays


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
