"""How the app is hosted: the server object that pages use, and whether app.py's routes exist.

`streamlit run app.py` serves app.py as an ASGI application: Streamlit's main script is frame.py, and app.py adds routes
of its own. Some hosts execute app.py as a plain script instead. It is then the main script and runs the frame itself,
and the charts work without the routes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from moe_sim.config.errors import InvalidInput
from moe_sim.config.settings import read_settings

if TYPE_CHECKING:
    from moe_sim.server.server import Server

FRAME = Path(__file__).resolve().parents[1] / "frame.py"
APOLOGY = "Something went wrong on this page. Reload it. If that does not help, remove everything after the “?” from "\
          "its address."  # fmt: skip

log = logging.getLogger(__name__)

_installed: Callable[[], Server] | None = None
"""A global, set by app.py, because Streamlit runs page scripts itself and passes them no arguments."""


def install(server: Callable[[], Server]) -> None:
    """Sets the function that returns the server to pages opened from now on."""
    global _installed
    _installed = server


def server() -> Server:
    """Returns the server that app.py installed, once it has started. On a plain-script host, the first page creates it;
    with an invalid setting, every page apologises and the log says which setting it is."""
    try:
        return _installed() if _installed else _server_of_a_plain_host()
    except InvalidInput as error:
        log.critical("%s", error)
        apologise(error)
        st.stop()


@st.cache_resource(show_spinner=False)
def _server_of_a_plain_host() -> Server:
    from moe_sim.server.server import Server  # not before a page needs it: it loads torch

    return Server(read_settings(sys.argv[1:]))


@dataclass(frozen=True)
class Presence:
    """Says whether a session is connected. Callable from any thread."""

    session_id: str

    def __call__(self) -> bool:
        return not Runtime.exists() or bool(Runtime.instance().is_active_session(self.session_id))


def presence() -> Presence:
    """Returns the presence of the visitor whose script is running."""
    context = get_script_run_ctx(suppress_warning=True)
    return Presence(context.session_id if context is not None else "")


def base_path() -> str:
    """Returns the server's base path without a trailing slash; usually empty."""
    return ("/" + str(st.get_option("server.baseUrlPath") or "").strip("/")).rstrip("/")


def routes_served() -> bool:
    """Whether app.py's routes exist: the stream, slides, Plotly's JavaScript."""
    context = get_script_run_ctx(suppress_warning=True)
    return context is None or Path(context.main_script_path).resolve() == FRAME


def session_id() -> str | None:
    """Returns the id of the session whose script runs in this thread, or None."""
    context = get_script_run_ctx(suppress_warning=True)
    return context.session_id if context is not None else None


def run_frame() -> None:
    """Executes frame.py as part of the current script."""
    spec = spec_from_loader("frame", SourceFileLoader("frame", str(FRAME)))
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module_from_spec(spec))


def stand_in_frame() -> None:
    """Runs the frame if a page was opened without it.

    If the main script is app.py, Streamlit serves the files in pages/ as standalone pages until the frame has declared
    the real ones. The first visitor may open one before that.
    """
    if "session" not in st.session_state:
        run_frame()
        st.stop()


def apologise(_: Exception) -> bool:
    """Shows an error message in place of Streamlit's own when a script fails. Streamlit logs the traceback."""
    st.error(APOLOGY, icon=":material/error:")
    return True
