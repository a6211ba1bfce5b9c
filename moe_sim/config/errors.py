"""Errors whose message is a sentence for the user."""

from __future__ import annotations


class UsageError(Exception):
    """The message is the sentence that the user gets."""
