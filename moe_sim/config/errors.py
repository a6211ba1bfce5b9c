"""Errors whose message is a sentence for the user."""

from __future__ import annotations


class UserError(Exception):
    """The message is a sentence that is shown to the user, without a traceback."""


class InvalidInput(UserError):
    """The user's input is invalid."""


class MissingPackage(UserError):
    """A package of an extra is not installed."""
