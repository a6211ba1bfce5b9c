"""What vLLM of later versions returns: arrays in base64, tokens from the prefix cache, layers that never route."""

from __future__ import annotations

import json
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from moe_sim.config.errors import InvalidInput
from tests.support.imports import read, routing

CHOICES = np.array([[[0, 1], [2, 1]], [[0, 2], [1, 0]], [[3, 1], [2, 0]]], np.int16)
"""Three tokens, two layers, two experts each."""


def in_base64(array: np.ndarray) -> str:
    """As the API encodes an array."""
    file = BytesIO()
    np.save(file, array)
    return b64encode(file.getvalue()).decode()


def test_arrays_in_base64_are_counted(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps({"choices": [{"routed_experts": in_base64(CHOICES)}]}) + "\n")
    assert routing(read("vllm", tmp_path / "r.jsonl")) == {
        (1, "layers.0"): (3, [2, 2, 1, 1]), (1, "layers.1"): (3, [2, 2, 2, 0]),
    }  # fmt: skip


def test_tokens_from_the_prefix_cache_are_not_counted(tmp_path: Path) -> None:
    known = CHOICES.copy()
    known[0] = -1
    np.save(tmp_path / "routed.npy", known)
    assert routing(read("vllm", tmp_path / "routed.npy")) == {
        (1, "layers.0"): (2, [1, 1, 1, 1]), (1, "layers.1"): (2, [2, 1, 1, 0]),
    }  # fmt: skip
    np.save(tmp_path / "routed.npy", np.full((2, 2, 2), -1))
    with pytest.raises(InvalidInput, match="There is no routing in it"):
        read("vllm", tmp_path / "routed.npy")


def test_dense_layers_are_not_taken_for_collapsed_ones(tmp_path: Path) -> None:
    """A buffer with a row for every layer says “expert 0, k times” where none routes."""
    routed = np.zeros((3, 3, 2), np.int32)
    routed[:, 1:] = CHOICES
    np.save(tmp_path / "routed.npy", routed)
    imported = read("vllm", tmp_path / "routed.npy")
    assert [layer.name for layer in imported.header.layers] == ["layers.1", "layers.2"]
    assert routing(imported)[1, "layers.1"] == (3, [2, 2, 1, 1])
    assert "1 of 3 layers never route, and were left out." in imported.notices


def test_with_one_expert_for_each_token_expert_0_may_have_them_all(tmp_path: Path) -> None:
    np.save(tmp_path / "routed.npy", np.zeros((3, 2, 1), np.int32))
    assert routing(read("vllm", tmp_path / "routed.npy"))[1, "layers.0"] == (3, [3, 0])


@pytest.mark.parametrize(
    "text", ["no base64!", "aGVsbG8=", in_base64(np.ones((2, 2, 2))), in_base64(np.array([[[None]]], object))]
)
def test_other_text_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"routed_experts": text}))
    with pytest.raises(InvalidInput, match=r"not whole numbers of the shape \(tokens, layers, k\)"):
        read("vllm", tmp_path / "r.json")
