"""Errors whose message is a sentence for the user."""

from __future__ import annotations


class UserError(Exception):
    """The message is a sentence that is shown to the user, without a traceback."""


class InvalidInput(UserError):
    """The user's input is invalid."""


class UnknownName(InvalidInput, KeyError):
    """Nothing has this name. It is a `KeyError` too, as for other look-ups by name."""

    __str__ = Exception.__str__  # a KeyError would show its sentence in quotation marks


class MissingPackage(UserError):
    """A package of an extra is not installed."""
