"""Texts as they are."""

from __future__ import annotations

import re

MARKS = re.compile(r"[\\`*\[\]$<>~#]|(?<!\w)_|_(?!\w)|:(?=\S)")
"""Signs that mean something to Streamlit's Markdown where they stand."""
JOINTS = re.compile(r"(?i)(?<=:)(?=\S)|(?<=www)(?=\.)|(?<=@)")
"""Places in what is made a link, an icon or an emoji only after the marks were read, so that no backslash helps."""
JOINER = "\N{WORD JOINER}"


def escape_markdown(text: str) -> str:
    """A text that may have come from anywhere, as Markdown that shows it unchanged: no link, picture, formula, icon or
    colour is made of it."""
    apart = JOINTS.sub(JOINER, " ".join(text.split()))
    return MARKS.sub(r"\\\g<0>", apart)
