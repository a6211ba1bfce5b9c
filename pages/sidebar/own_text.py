"""The controls for a text of the visitor's own."""

from __future__ import annotations

import streamlit as st

from moe_sim.tasks.own_text import LONGEST, SHORTEST
from pages.visitor.session import Session
from pages.visitor.widgets import reported

LARGEST_UPLOAD = 4
"""MB: the longest text in characters of four bytes each."""
KEY = "own-text"


def draw(session: Session) -> None:
    """Draws a field to paste a text, a place to upload one, and what starts the run on it."""
    if session.run.config.own_text is not None:
        st.caption("The model learns a text of your own. It is kept for this session only.")
        st.button("Back to the text of the task", on_click=session.change, kwargs={"own_text": None}, width="stretch")
    st.text_area(
        "Text of your own", key=KEY, height=100, max_chars=LONGEST, placeholder="Paste a text",
        help=f"From {SHORTEST:,} to {LONGEST:,} characters, for example a book. The model learns it character by "
        "character. It is kept for this session only: a link or a file of the run does not hold it.",
    )  # fmt: skip
    st.button("Train on this text", on_click=_use_pasted, args=(session,), width="stretch")
    upload = st.file_uploader("Or upload one (TXT)", type="txt", max_upload_size=LARGEST_UPLOAD)
    if upload is not None:
        st.button("Train on this file", on_click=_use_file, args=(session, upload.getvalue()), width="stretch")


def _use_pasted(session: Session) -> None:
    session.use_text(str(reported(KEY) or ""))


def _use_file(session: Session, content: bytes) -> None:
    try:
        session.use_text(content.decode("utf-8"))
    except UnicodeDecodeError:
        session.notices.append("This file is not text in UTF-8.")
