"""Parses command-line arguments and defines the exit codes."""

from __future__ import annotations

from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import KNOBS
from moe_sim.config.suggestions import unknown_knob

EXIT_FAILED, EXIT_USAGE, EXIT_COLLAPSED, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED = 1, 2, 3, 130, 141
"""Exit codes: failed or diverged runs, an error before or outside a run, a collapsed layer in a trace, Ctrl-C, output
that `head` cut short."""


def split_assignments(words: list[str]) -> dict[str, str]:
    """The texts of `name=text` arguments by knob.

    Raises:
        InvalidInput: if an argument is not of that form or names an unknown knob.
    """
    texts = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InvalidInput(f"{word[:40]!r} is not of the form name=value.")
        if name not in KNOBS:
            raise InvalidInput(unknown_knob(name, KNOBS, "; `python -m moe_sim knobs` lists them."))
        texts[name] = text
    return texts


def read_whole_number(option: str, text: str, highest: int) -> int:
    """The whole number after an option.

    Raises:
        InvalidInput: if the text is not a whole number from 1 to `highest`.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
        raise InvalidInput(f"{option} must be a whole number from 1 to {highest:,}, not {text[:40]!r}.")
    return int(text)
