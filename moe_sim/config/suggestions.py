"""Sentences about unknown names, with the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import NoReturn, TypeVar

from moe_sim.config.errors import UnknownName

Value = TypeVar("Value")

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


class ByName(dict[str, Value]):
    """A dictionary that answers an unknown name with a sentence.

    Args:
        noun: what the names stand for.
        items: the values by name.
    """

    def __init__(self, noun: str, items: Mapping[str, Value]) -> None:
        super().__init__(items)
        self.noun = noun

    def __missing__(self, name: str) -> NoReturn:
        say = unknown_knob if self.noun == "knob" else partial(unknown, self.noun)
        raise UnknownName(say(str(name), self))
