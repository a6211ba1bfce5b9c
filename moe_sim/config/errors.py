"""Errors whose message is a sentence for the user."""

from __future__ import annotations


class InvalidInput(Exception):
    """Invalid input; the message is shown to the user."""
