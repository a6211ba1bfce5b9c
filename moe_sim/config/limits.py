"""Limits that several packages share."""

from __future__ import annotations

MOST_STEPS = 100_000
"""The longest run, in steps, that can be exported and reopened."""
