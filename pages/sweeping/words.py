"""Texts as they are."""

from __future__ import annotations


def literal(text: str) -> str:
    """A text that may have come from anywhere, as Markdown that shows it unchanged."""
    for mark in "\\`*_[]$<>~#:":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
