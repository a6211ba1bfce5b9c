"""Parses command-line words and defines the exit codes."""

from __future__ import annotations

from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import KNOBS

FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
"""Exit codes: runs that failed, arguments that cannot be, and Ctrl-C."""


def split_assignments(words: list[str]) -> dict[str, str]:
    """`name=text` words by the knob they name.

    Raises:
        InvalidInput: if a word is not of that form or there is no such knob.
    """
    texts = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InvalidInput(f"{word[:40]!r} is not of the form name=value.")
        if name not in KNOBS:
            raise InvalidInput(f"There is no knob named {name[:40]!r}; `python -m moe_sim knobs` lists them.")
        texts[name] = text
    return texts


def read_whole_number(option: str, text: str, highest: int) -> int:
    """The number after an option, from 1 on.

    Raises:
        InvalidInput: if it is none, or larger than `highest`.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
        raise InvalidInput(f"{option} must be a whole number from 1 to {highest:,}, not {text[:40]!r}.")
    return int(text)
