"""Sentences about unknown names, with the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

OTHER_NAMES = {"alpha": "aux_loss_coef", "lr": "learning_rate", "k": "top_k", "experts": "num_experts"}
"""Knobs by the names that people try first."""


def unknown(noun: str, name: str, known: Iterable[str], otherwise: str = ".") -> str:
    """A sentence that says that a name is unknown.

    Args:
        noun: what it should be.
        name: the name.
        known: the names that exist.
        otherwise: how the sentence ends if none of them resembles it.
    """
    return f"There is no {noun} {name[:40]!r}{did_you_mean(name, known, otherwise)}"


def did_you_mean(name: str, known: Iterable[str], otherwise: str = ".") -> str:
    """The end of a sentence about an unknown name."""
    close = get_close_matches(name[:40], known, n=1)
    return f"; did you mean {close[0]}?" if close else otherwise


def unknown_knob(name: str, known: Iterable[str], otherwise: str = ".") -> str:
    """The same for a knob."""
    other = OTHER_NAMES.get(name.lower(), "")
    return unknown("knob named", name, known, f"; did you mean {other}?" if other in known else otherwise)
