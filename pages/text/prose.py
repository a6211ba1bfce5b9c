"""Prose with terms underlined for the reader's level, explained on hover and focus."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import streamlit as st

from moe_sim.teaching.course.lesson import Criterion
from moe_sim.teaching.level import Level
from moe_sim.teaching.terms.occurrences import find


def show(paragraphs: Iterable[str], level: Level) -> None:
    """Shows paragraphs of plain text."""
    st.html('<div class="reading">' + "".join(f"<p>{underlined(text, level)}</p>" for text in paragraphs) + "</div>")


def listing(items: Iterable[str], level: Level) -> None:
    """Shows a list of plain texts."""
    lines = "".join(f"<li>{underlined(text, level)}</li>" for text in items)
    st.html(f'<ul class="reading">{lines}</ul>')


def checklist(criteria: Iterable[Criterion], level: Level, *, judged: bool = False) -> None:
    """Shows criteria with their values, each marked as met or not; `judged` ones as right or wrong."""
    unmet, met = ("wrong", "right") if judged else ("not yet", "met")
    lines = []
    for one in criteria:
        text = f"{one.text} ({one.value})" if one.value else one.text
        label = f"{text}: {met if one.met else unmet}"
        lines.append(
            f'<li data-met="{str(bool(one.met)).lower()}" aria-label="{escape(label)}">{underlined(text, level)}</li>'
        )
    st.html(f'<ul class="reading{" judged" if judged else ""}">{"".join(lines)}</ul>')


def underlined(text: str, level: Level) -> str:
    """Returns plain text as HTML. Marks the first occurrence of each term that readers of the level may not know."""
    parts, at = [], 0
    for start, end, term in find(text, level):
        parts.append(escape(text[at:start]))
        short = escape(f"{term.name}: {term.short}")
        parts.append(f'<abbr class="term" tabindex="0" data-short="{short}">{escape(text[start:end])}</abbr>')
        at = end
    return "".join(parts) + escape(text[at:])
