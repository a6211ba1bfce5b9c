"""The museum: runs that go wrong for a reason that people have really met. The visitor names it from the charts."""

from __future__ import annotations

import streamlit as st

from moe_sim.teaching.museum.catalogue import EXHIBITS, TITLES
from moe_sim.teaching.museum.exhibit import Exhibit
from pages.dashboard import run_board
from pages.text import prose
from pages.visitor import hosting
from pages.visitor.museum import MuseumVisit, answer_key
from pages.visitor.session import Session, current
from pages.visitor.widgets import one_of


def _contents(visit: MuseumVisit) -> None:
    with st.container(horizontal=True, key="presets-exhibits"):
        for number, exhibit in enumerate(EXHIBITS, start=1):
            st.button(
                f"{'✓ ' if exhibit.mistake in visit.solved else ''}Exhibit {number}", key=f"exhibit-{number}",
                type="primary" if exhibit is visit.exhibit else "secondary", on_click=visit.open, args=(exhibit,),
            )  # fmt: skip


def _start(session: Session, exhibit: Exhibit) -> None:
    session.restart(exhibit.config(session.run.config.seed), exhibit.plan, train=True)


def _compare(session: Session, exhibit: Exhibit) -> None:
    """Trains the run beside the same without the mistake, on the Compare page."""
    session.comparison().begin(exhibit.beside_healthy(session.run.config.seed), train=True)
    session.leave_for = "Compare"


def _is_running(session: Session, exhibit: Exhibit) -> bool:
    """Whether the visitor's run is the exhibit's, whatever was changed in it since."""
    return session.run.history.initial_config == exhibit.config(session.run.config.seed)


def _answer(exhibit: Exhibit) -> str | None:
    return one_of(st.session_state.get(answer_key(exhibit)), TITLES, None)


def _ask(visit: MuseumVisit, exhibit: Exhibit) -> None:
    """Asks for the mistake, and says if the answer is wrong."""
    st.radio("**Which mistake is it?**", TITLES, index=None, key=answer_key(exhibit))
    if _answer(exhibit) not in (None, exhibit.title):
        st.warning("That would look different. Read the charts of the other tabs, and the diagnosis.")
    if exhibit.mistake not in visit.solved | visit.given_up:
        st.button("Show me", on_click=visit.given_up.add, args=(exhibit.mistake,), help="Gives the answer away.")


def _explain(session: Session, exhibit: Exhibit) -> None:
    level = session.view.level
    if exhibit.mistake in session.museum.solved:
        st.success(f"Right: {exhibit.title[0].lower()}{exhibit.title[1:]}.")
    else:
        st.info(f"{exhibit.title}.")
    st.markdown("**What gives it away**")
    prose.show([exhibit.giveaway], level)
    st.button("Show me that chart", key="exhibit-chart", on_click=session.turn_to, args=(exhibit.tab,))
    st.markdown("**What happened**")
    prose.show(exhibit.explanation, level)
    st.markdown("**Wrong**")
    st.code(exhibit.wrong, language=None, wrap_lines=True)  # colours of a language have too little contrast
    st.markdown("**Right**")
    st.code(exhibit.right, language=None, wrap_lines=True)
    if exhibit.reports:
        found = ", ".join(f"[{report.project} #{report.number}]({report.url})" for report in exhibit.reports)
        st.markdown(f"Found in {found}.")
    st.button("Train it beside the healthy run", on_click=_compare, args=(session, exhibit),
              help="Opens Compare: A without the mistake, B with it.")  # fmt: skip


def _draw(session: Session, exhibit: Exhibit) -> None:
    text, charts = st.columns([1, 1.9])
    with text:
        st.markdown(f"**What its author wanted.** {exhibit.wanted}")
        running = _is_running(session, exhibit)
        st.button("Start again" if running else "Start this exhibit", type="secondary" if running else "primary",
                  key="start-exhibit", on_click=_start, args=(session, exhibit),
                  help="Trains the run with the mistake in it, from step 0.")  # fmt: skip
        _ask(session.museum, exhibit)
        if exhibit.mistake in session.museum.solved | session.museum.given_up:
            _explain(session, exhibit)
    with charts, st.container(key="lesson-board"):
        run_board.show(session)


hosting.stand_in_frame()
visitor = current()
exhibit = visitor.museum.exhibit
if _answer(exhibit) == exhibit.title:
    visitor.museum.solved.add(exhibit.mistake)
st.title("Museum of mistakes", anchor=False)
st.markdown(
    "Each of these runs trains, and nothing crashes. In each, one line of code is wrong, as it was in a real project. "
    "Start it, look at any chart, and name the mistake."
)
_contents(visitor.museum)
st.header(f"Exhibit {visitor.museum.number}", anchor=False)
_draw(visitor, exhibit)
