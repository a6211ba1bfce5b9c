"""A visitor's traces: those of the host's folder, and files that they opened."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from moe_sim.diagnosis.verdict import LEVELS
from moe_sim.history.trace import TraceHistory
from moe_sim.history.trace_format import NotATraceError
from moe_sim.live.trace_folder import Summary, TraceFolder, summary_of
from moe_sim.live.uploaded_traces import UploadedTraces
from pages.visitor.session import Session

MOST_OPENED = 2
"""The maximum number of uploads that a session keeps."""


@dataclass
class MyTraces:
    """What one visitor can look at.

    Args:
        folder: the host's.
        uploads: opens files.
    """

    folder: TraceFolder
    uploads: UploadedTraces
    opened: dict[str, TraceHistory] = field(default_factory=dict)
    """The visitor's own files, the newest last."""

    def summaries(self) -> list[Summary]:
        """All traces, the worst verdict first; the visitor's own before others of the same."""
        own = [summary_of(name, history) for name, history in self.opened.items()]
        return sorted([*own, *self.folder.summaries()], key=lambda one: -LEVELS.index(one.verdict.level))

    def history(self, name: str) -> TraceHistory:
        """Returns a trace.

        Raises:
            NotATraceError: with a sentence, if there is none of this name, or it cannot be read.
        """
        return self.opened[name] if name in self.opened else self.folder.open(name)

    def known(self, name: str) -> TraceHistory | None:
        """`history`, or None where that raises."""
        try:
            return self.history(name)
        except NotATraceError:
            return None

    def open(self, name: str, content: bytes) -> str:
        """Opens a file, and returns the name of its trace.

        Raises:
            InvalidInput: with a sentence, if it is not a trace or too large.
        """
        own = f"{name} (uploaded)"
        self.opened.pop(own, None)
        while len(self.opened) >= MOST_OPENED:
            self.opened.pop(next(iter(self.opened)))
        self.opened[own] = self.uploads.open(name, content)
        return own


def my_traces(session: Session) -> MyTraces:
    """Returns the traces of the visitor whose script is running."""
    mine = st.session_state.get("traces")
    if mine is None:  # not read back: the state may be emptied at any time, when the visitor leaves
        mine = st.session_state["traces"] = MyTraces(session.server.traces, session.server.uploaded_traces)
    return mine
