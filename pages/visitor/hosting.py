"""What a page has to know of the server that it is on.

`streamlit run app.py` makes an ASGI application of app.py: Streamlit's main script is then frame.py, and the server
answers more than Streamlit does. A host that executes app.py as a script knows nothing of that: app.py is the main
script then and runs the frame, and the charts do without the other addresses.
"""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from moe_sim.config.settings import read_settings
from moe_sim.server.server import Server

FRAME = Path(__file__).resolve().parents[1] / "frame.py"
APOLOGY = "Something went wrong on this page. Reload it; if that does not help, open it without what follows the “?” "\
          "in its address."  # fmt: skip


_installed: Server | None = None
"""Streamlit starts the scripts of pages itself and passes them nothing, so app.py leaves the server here for them."""


def install(server: Server) -> None:
    """Make this the server of pages that are opened from now on."""
    global _installed
    _installed = server


def server() -> Server:
    """The server that app.py made. Where a host executes app.py as a script, the first visitor's page makes it."""
    return _installed or _server_of_a_plain_host()


@st.cache_resource(show_spinner=False)
def _server_of_a_plain_host() -> Server:
    return Server(read_settings())


def base_path() -> str:
    """The path below which the server is reached, without a slash at its end: mostly empty."""
    return ("/" + str(st.get_option("server.baseUrlPath") or "").strip("/")).rstrip("/")


def routes_served() -> bool:
    """Whether this server also answers what app.py routes: the stream, slides, Plotly's JavaScript."""
    context = get_script_run_ctx(suppress_warning=True)
    return context is None or Path(context.main_script_path).resolve() == FRAME


def run_frame() -> None:
    """Run the frame as part of another script."""
    spec = spec_from_loader("frame", SourceFileLoader("frame", str(FRAME)))
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module_from_spec(spec))


def stand_in_frame() -> None:
    """Put a page into the frame that was started without.

    Beside a main script called app.py Streamlit takes the files in pages/ for pages by themselves, until the frame has
    declared the real ones. The very first visitor may open one before that.
    """
    if "session" not in st.session_state:
        run_frame()
        st.stop()


def apologise(_: Exception) -> bool:
    """What a visitor is told when the script failed, in place of Streamlit's own words. The traceback is in the log."""
    st.error(APOLOGY, icon=":material/error:")
    return True
