"""Versions of links and files. One of an earlier version keeps its meaning: a knob that it does not know has the value
that every run had at that time.

A link leaves out what is at its version's default. So whoever changes a default, or adds a knob, raises `VERSION` and
says in this file what a link of the version before means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 2

ADDED: dict[str, Any] = {
    "warmup_steps": 0, "frozen_experts": False, "frozen_router": False, "frozen_head": False, "router_blind": False,
    "swap_columns": None, "swap_weights": None, "router_init": "plain", "expert_init": "independent",
}  # fmt: skip
"""Knobs of version 2 that version 1 did not have, with the value that its runs had."""


def completed(values: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The knobs of a link or file of that version, with those added since."""
    return {**(ADDED if version == "1" else {}), **values}
