"""Where a visitor is in the museum: the exhibit that is open, and those that were solved."""

from __future__ import annotations

import streamlit as st

from moe_sim.teaching.museum.catalogue import EXHIBITS
from moe_sim.teaching.museum.exhibit import Exhibit
from pages.visitor.widgets import one_of

ANSWER = "exhibit_answer_"
"""Prefix of the keys under which answers are kept."""
NUMBERS = tuple(str(number) for number in range(1, len(EXHIBITS) + 1))


def number() -> int:
    """The number of the open exhibit, from 1: at first the one that the link names."""
    if "exhibit" not in st.session_state:
        st.session_state["exhibit"] = one_of(st.query_params.get("exhibit"), NUMBERS, NUMBERS[0])
    return int(one_of(st.session_state.get("exhibit"), NUMBERS, NUMBERS[0]))


def chosen() -> Exhibit:
    """The open exhibit."""
    return EXHIBITS[number() - 1]


def choose(exhibit: Exhibit) -> None:
    """Opens an exhibit."""
    st.session_state["exhibit"] = str(EXHIBITS.index(exhibit) + 1)


def solved() -> set[str]:
    """The mistakes that were named so far; add to it."""
    return st.session_state.setdefault("exhibits_solved", set())


def given_up() -> set[str]:
    """The mistakes that were shown on request; add to it."""
    return st.session_state.setdefault("exhibits_given_up", set())


def answer_key(exhibit: Exhibit) -> str:
    """The key of the widget with the answer to an exhibit."""
    return f"{ANSWER}{EXHIBITS.index(exhibit)}"
