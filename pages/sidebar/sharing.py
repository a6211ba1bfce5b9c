"""The Share and Export dialogs: links, QR codes, embeds, lectures, and the run as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from zlib import crc32

import segno
import streamlit as st
from streamlit.navigation.page import StreamlitPage

from moe_sim.charts.html_page import run_to_html
from moe_sim.config.codec import MOST_EVENTS
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_csv import run_to_csv
from moe_sim.history.to_json import run_to_json
from moe_sim.live.live_run import LiveRun
from moe_sim.server.slides import scene_of
from moe_sim.server.warm_up import load_pandas
from pages.visitor.address import address
from pages.visitor.session import Session
from pages.visitor.view import HIDEABLE
from pages.visitor.widgets import one_of

LARGEST_UPLOAD = 40
"""MB."""


def draw(session: Session, pages: Sequence[StreamlitPage]) -> None:
    """Shows the requested dialog, if any."""
    name, session.dialog = session.dialog, None
    if name == "share":
        _share(session, pages)
    elif name == "export":
        _export(session)


@st.dialog("Share", width="large")
def _share(session: Session, pages: Sequence[StreamlitPage]) -> None:
    history = session.run.history
    changes = sum(len(event.changes) for event in history.events)
    left, right = st.columns(2)
    fits = 0 < changes <= MOST_EVENTS
    include = left.toggle(
        f"Include my changes so far ({changes} change{'s' * (changes != 1)})", value=fits, disabled=not fits,
        help=f"The link replays every change at its step, from the same start. It can hold {MOST_EVENTS} of them.",
    )  # fmt: skip
    autoplay = left.toggle("Start training when opened")
    embed = left.toggle("Embedded", help="Hides Streamlit's own header and menu, for use inside another page.")
    page = one_of(right.selectbox("Page", pages, format_func=lambda one: one.title), pages, pages[0])
    hide = right.multiselect("Hide", HIDEABLE, format_func=HIDEABLE.__getitem__, help="Parts of the page to leave out.")

    view = replace(
        session.view, autoplay=autoplay, hide=session.view.hide | frozenset(part for part in HIDEABLE if part in hide)
    )
    config, events = (
        (history.initial_config, history.events) if include else (session.run.start_config, session.run.plan)
    )
    query = session.link(config, events, view) | ({"embed": "true"} if embed else {})
    link = address(page.url_path, query)
    _link_and_qr_code(link)
    st.markdown("**Embed in a web page**")
    embedded = address(page.url_path, query | {"embed": "true"})
    st.code(f'<iframe src="{escape(embedded)}" title="Expert Collapse Lab" width="100%" height="900" style="border:0" '
            'loading="lazy" allow="clipboard-write; fullscreen"></iframe>', language=None,
            wrap_lines=True)  # fmt: skip
    st.markdown("**Follow me**: anyone who opens this link watches your run live and can branch off at any step.")
    if session.lecture is None:
        st.button("Start a lecture", on_click=session.begin_lecture)
    else:
        _link_and_qr_code(address("", {"follow": session.lecture}))


def _link_and_qr_code(link: str) -> None:
    """A link to copy, and its QR code, which fills the screen when it is clicked."""
    left, right = st.columns([3, 1])
    left.code(link, language=None, wrap_lines=True)
    try:
        code = segno.make(link, error="l")
    except segno.DataOverflowError:
        right.caption("Too long for a QR code.")
    else:
        image = f'<img src="{escape(code.svg_data_uri(scale=4, border=4, light="#ffffff"))}" alt="QR code of the link">'
        name = f"qr-{crc32(link.encode()):x}"
        right.html(
            f'<button class="qr" popovertarget="{name}" aria-label="Show the QR code full screen">{image}</button>'
            f'<button class="qr" popover id="{name}" popovertarget="{name}" aria-label="Close">{image}</button>'
        )


@st.dialog("Export")
def _export(session: Session) -> None:
    load_pandas()  # before several threads want it
    run = session.run
    steps = len(run.history)
    st.markdown(f"Step {steps:,} of the run. For a single figure, use the SVG and PNG buttons of its chart.")
    link = address("", session.link(run.history.initial_config, run.history.events))
    name = f"expert-collapse-seed-{run.config.seed}-step-{steps}"

    def page() -> str:
        return run_to_html(scene_of(run), link, diverged=run.state == "diverged")

    for label, suffix, mime, make, words in (
        ("JSON", "json", "application/json", lambda: run_to_json(run.history, run.probe),
         "configuration, changes and every number; can be loaded below"),
        ("CSV", "csv", "text/csv", lambda: run_to_csv(run.history), "one row per step"),
        ("HTML", "html", "text/html", page, "one interactive page with all charts; works offline"),
    ):  # fmt: skip
        left, right = st.columns([1, 3], vertical_alignment="center")
        left.download_button(label, make, f"{name}.{suffix}", mime, on_click="ignore", disabled=not steps,
                             width="stretch")  # fmt: skip
        right.markdown(words)
    st.divider()
    upload = st.file_uploader("Load a run (JSON)", type="json", max_upload_size=LARGEST_UPLOAD)
    if upload is not None and st.button("Show it", type="primary"):
        _load(session, upload.getvalue())
        st.rerun()


def _load(session: Session, content: bytes) -> None:
    """Shows a recorded run. If the file is not one, adds a notice and keeps the current run."""
    try:
        history, probe = run_from_json(content.decode("utf-8"))
    except UnicodeDecodeError:
        session.notices.append("This file is not text, so it is not a run exported as JSON.")
    except ValueError as error:
        session.notices.append(str(error))
    else:
        session.show(lambda: LiveRun.recorded(history, probe, session.server.runs))
        session.notices.append("A recorded run, as it was. Reset trains it again with the same knobs and changes.")
