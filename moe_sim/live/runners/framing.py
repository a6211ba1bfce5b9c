"""Messages between a server and its worker processes: a line of JSON and some arrays. Nothing in them can run."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

_LENGTHS = struct.Struct("!IQ")


def write(stream: IO[bytes], header: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Send a message.

    Raises:
        OSError: where nobody reads any more.
    """
    shapes = [(array.dtype.str, array.shape) for array in arrays]
    text = json.dumps({"header": header, "arrays": shapes}).encode()
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    stream.write(_LENGTHS.pack(len(text), len(body)) + text + body)
    stream.flush()


def read(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Wait for a message.

    Raises:
        EOFError: where nobody will write any more.
    """
    text_length, body_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    message = json.loads(_exactly(stream, text_length))
    body, arrays, start = _exactly(stream, body_length), [], 0
    for dtype, shape in message["arrays"]:
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(body, dtype, count, start).reshape(shape))
        start += arrays[-1].nbytes
    return message["header"], arrays


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
