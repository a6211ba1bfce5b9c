"""Notices for the visitor."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import streamlit as st

from pages.text.markdown import escape_markdown

MOST = 4
"""The maximum number of notices shown. A link may have hundreds of errors, and the page must stay visible."""
READING_TIME = 6.0
"""Seconds for which script runs keep a notice. The page often runs its script again by itself, within milliseconds,
and would otherwise remove a notice that nobody could read."""


class Notices:
    """Sentences for the visitor. Each stays until the first script run after its reading time."""

    def __init__(self) -> None:
        self._new: list[str] = []
        self._shown: dict[str, float] = {}
        """Sentences with the time at which each was first shown."""

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._new, *self._shown]))

    def append(self, sentence: str) -> None:
        """Adds a sentence, or gives one that is still shown its full reading time again."""
        self._new.append(sentence)

    def extend(self, sentences: Iterable[str]) -> None:
        """Adds several sentences."""
        self._new.extend(sentences)

    def show(self) -> None:
        """Draws the notices as plain text, not Markdown, the newest first."""
        now = time.monotonic()
        recent = {
            one: since for one, since in self._shown.items() if now - since < READING_TIME and one not in self._new
        }
        self._shown = dict.fromkeys(self._new, now) | recent
        self._new = []
        with st.container():  # even without notices, so that elements below keep their place and are not remounted
            for sentence in list(self)[:MOST]:
                st.warning(escape_markdown(sentence), icon=":material/info:")
            if len(self._shown) > MOST:
                st.warning(f"And {len(self._shown) - MOST} more.", icon=":material/info:")
