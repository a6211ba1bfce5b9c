"""Limits that several packages share."""

from __future__ import annotations

MOST_STEPS = 100_000
"""Steps of a run that can still be exported and opened again."""
