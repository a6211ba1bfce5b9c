"""Messages between a server and its worker processes survive the round trip and hold only data."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from moe_sim.live.runners import framing

TYPES = (np.float64, np.float32, np.int64, np.uint8, np.bool_)
ARRAYS = st.lists(
    st.sampled_from(TYPES).flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))),
    max_size=4,
)


@given(arrays=ARRAYS, words=st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=4))
def test_a_message_arrives_as_it_was_sent(arrays: list[np.ndarray], words: dict[str, object]) -> None:
    line = io.BytesIO()
    framing.write(line, words, arrays)
    framing.write(line, {"next": 1})
    line.seek(0)
    header, read = framing.read(line)
    assert header == words
    assert [(array.dtype, array.shape, array.tobytes()) for array in read] == [
        (array.dtype, array.shape, array.tobytes()) for array in arrays
    ]
    assert framing.read(line)[0] == {"next": 1}


@given(cut=st.integers(0, 100))
def test_a_truncated_message_raises_end_of_file(cut: int) -> None:
    line = io.BytesIO()
    framing.write(line, {"name": "advance"}, [np.arange(5.0)])
    whole = line.getvalue()
    with pytest.raises(EOFError):
        framing.read(io.BytesIO(whole[: min(cut, len(whole) - 1)]))


def test_objects_cannot_be_sent() -> None:
    with pytest.raises(TypeError):
        framing.write(io.BytesIO(), {"config": object()})
