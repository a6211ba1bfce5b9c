"""The frame around every page: configuration, sidebar, address bar, navigation."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import streamlit as st

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from pages.visitor import hosting  # noqa: E402

hosting.server()  # waits until it has started; only then is everything below loaded

from moe_sim.server import warm_up  # noqa: E402
from pages.sidebar import run_controls  # noqa: E402
from pages.visitor import course, museum, session  # noqa: E402

st.set_page_config(page_title="Expert Collapse Lab", page_icon=str(HERE / "icon.svg"), layout="wide",
                   initial_sidebar_state="collapsed" if st.context.is_embedded else "auto")  # fmt: skip
st.html(Path(__file__).with_name("frame.css"))

PAGES = (
    st.Page(HERE / "live.py", title="Live", default=True),
    st.Page(HERE / "compare.py", title="Compare"),
    st.Page(HERE / "sweep.py", title="Sweep"),
    st.Page(HERE / "your_model.py", title="Your model"),
    st.Page(HERE / "learn.py", title="Learn"),
    st.Page(HERE / "museum.py", title="Museum"),
    st.Page(HERE / "anatomy.py", title="Anatomy"),
    st.Page(HERE / "quiz.py", title="Quiz"),
    st.Page(HERE / "glossary.py", title="Glossary"),
)
KEPT = ("anatomy_", "sweep_form_", course.PREDICTION, museum.ANSWER)
"""Prefixes of the keys of widgets whose state is kept on other pages."""
with suppress(KeyError):  # a client has reported a widget that does not exist
    for key in [key for key in st.session_state if str(key).startswith(KEPT)]:
        st.session_state[key] = st.session_state[key]  # or Streamlit drops the state of widgets on other pages
visitor = session.current()
position: Literal["hidden", "top"] = "hidden" if "pages" in visitor.view.hide else "top"
page = st.navigation(list(PAGES), position=position)
visitor.settle()
visitor.put_next_values()
if (next_page := next((one for one in PAGES if one.title == visitor.leave_for), None)) is not None:
    visitor.leave_for = None
    st.switch_page(next_page)
visitor.follow_address()
visitor.follow_lecture()
with st.sidebar:
    trains_live_run = page.title in ("Live", "Museum") or (page.title == "Learn" and visitor.course.trains_live_run)
    run_controls.draw(visitor, PAGES, trains_live_run=trains_live_run)
exhibit = visitor.museum.number if page.title == "Museum" else None
visitor.write_address(comparing=page.title == "Compare", watching=page.title == "Your model", exhibit=exhibit)
visitor.notices.show()
try:
    page.run()
except AttributeError as error:
    if not warm_up.is_of_half_loaded_pandas(error):
        raise
    warm_up.load_pandas()
    st.rerun()
