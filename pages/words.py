"""Texts as they are."""

from __future__ import annotations

import re

MARKS = re.compile(r"[\\`*\[\]$<>~#]|(?<!\w)_|_(?!\w)|:(?=\S)")
"""Signs that mean something to Streamlit's Markdown where they stand."""
ADDRESSES = re.compile(r"(?i)(?<=http:)(?=//)|(?<=https:)(?=//)|(?<=www)(?=\.)|(?<=@)")
"""Places at which something would be taken for an address, and made a link, whatever stands before it."""
JOINER = "\N{WORD JOINER}"


def literal(text: str) -> str:
    """A text that may have come from anywhere, as Markdown that shows it unchanged: no link, picture, formula, icon or
    colour is made of it."""
    apart = ADDRESSES.sub(JOINER, " ".join(text.split()))
    return MARKS.sub(r"\\\g<0>", apart)
