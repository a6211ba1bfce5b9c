"""Traces that are part of the package, written by `python -m moe_sim demo`: 200 and 120 steps of two models."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parent / "examples"
RESCUED = EXAMPLES / "mixtral-rescued"
"""A Mixtral that collapses in all layers and is brought back by a loss of each layer."""
ONE_PER_TOKEN = EXAMPLES / "mistakes" / "mixtral-one-per-token"
"""The same Mixtral with `num_experts_per_tok=1`, whose routers get no gradient from the task."""
