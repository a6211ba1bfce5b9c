"""Versions of links and files. One of an earlier version keeps its meaning: a knob that it does not know has the value
that every run had at that time.

A link leaves out what is at its version's default. So whoever changes a default, or adds a knob, raises `VERSION` and
says in this file what a link of the version before means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 4

ADDED_IN: dict[int, dict[str, Any]] = {
    2: {
        "warmup_steps": 0, "frozen_experts": False, "frozen_router": False, "frozen_head": False,
        "router_blind": False, "swap_columns": None, "swap_weights": None, "router_init": "plain",
        "expert_init": "independent",
    },
    3: {"num_layers": 1, "own_text": None},
    4: {
        "balance_scope": "batch", "micro_batches": 4, "bias_update": "sign", "score_function": "softmax",
        "shared_experts": 0, "sequence_tokens": 1, "mistake": "none", "eval_capacity_factor": None,
    },
}  # fmt: skip
"""The knobs that a version added, with the value that all runs had before."""
ADDED = {name: value for knobs in ADDED_IN.values() for name, value in knobs.items()}


def completed(values: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The knobs of a link or file of that version, with those added since."""
    known = int(version) if version in map(str, range(1, VERSION)) else VERSION
    added = {name: value for later, knobs in ADDED_IN.items() if later > known for name, value in knobs.items()}
    return {**added, **values}
