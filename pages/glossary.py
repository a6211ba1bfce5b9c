"""All terms, and frequently asked questions."""

from __future__ import annotations

from html import escape

import streamlit as st

from moe_sim.teaching.faq import FAQ
from moe_sim.teaching.terms.catalogue import TERMS
from moe_sim.teaching.terms.term import Term
from pages.text import prose
from pages.visitor import hosting
from pages.visitor.session import current
from pages.visitor.widgets import text_of

hosting.stand_in_frame()
level = current().view.level
st.title("Glossary", anchor=False)
wanted = text_of(st.text_input("Find a term", placeholder="load, capacity, MaxVio …")).strip().lower()


def _entry(term: Term) -> str:
    aliases = f" <small>{escape(' · '.join(term.aliases))}</small>" if term.aliases else ""
    lines = [f"<p><strong>{escape(term.short)}</strong></p>", f"<p>{escape(term.deep[level])}</p>"]
    if term.formula:
        lines.append(f'<p class="formula">{escape(term.formula)}</p>')
    if term.elsewhere:
        lines.append(f"<p>In other tools: {escape(term.elsewhere)}</p>")
    if term.see:
        lines.append(f"<p>See also: {escape(', '.join(term.see))}.</p>")
    return f"<dt>{escape(term.name)}{aliases}</dt><dd>{''.join(lines)}</dd>"


found = [term for term in TERMS if any(wanted in name.lower() for name in term.names)]
found.sort(key=lambda term: term.name.lower())
st.caption(f"{len(found)} of {len(TERMS)} terms, explained for the level set in the sidebar: {level}.")
if found:
    st.html('<dl class="glossary">' + "".join(_entry(term) for term in found) + "</dl>")
else:
    st.info("No term matches. Try a shorter word.")

st.header("Frequently asked questions", anchor=False)
for entry in FAQ:
    with st.expander(entry.question):
        prose.show([entry.answers[level]], level)
