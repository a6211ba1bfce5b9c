"""Errors whose message is a sentence for the user."""

from __future__ import annotations


class InvalidInput(Exception):
    """The message is the sentence that the user gets."""
