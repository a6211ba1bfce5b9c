"""Escapes text for Streamlit's Markdown."""

from __future__ import annotations

import re

MARKS = re.compile(r"[\\`*\[\]$<>~#]|(?<!\w)_|_(?!\w)|:(?=\S)")
"""Characters with a meaning in Streamlit's Markdown."""
JOINTS = re.compile(r"(?i)(?<=:)(?=\S)|(?<=www)(?=\.)|(?<=@)")
"""Places inside links, icons and emoji, which are detected after backslash escapes have been processed."""
JOINER = "\N{WORD JOINER}"


def escape_markdown(text: str) -> str:
    """Returns Markdown that shows untrusted text literally, without links, images, formulas, icons or colours.
    Whitespace is collapsed."""
    apart = JOINTS.sub(JOINER, " ".join(text.split()))
    return MARKS.sub(r"\\\g<0>", apart)
