"""The query in the browser's address bar: what we wrote there, and what a visitor put there instead."""

from __future__ import annotations

import math
import time
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

LAG = 3.0
"""Seconds in which a browser may still report the address from before our last change to it."""


class AddressBar:
    """One visitor's address bar."""

    def __init__(self) -> None:
        self._written: dict[str, str] = {}
        self._written_at = -math.inf

    def put_by_visitor(self) -> dict[str, str] | None:
        """The query that the visitor asks for (the back button, an edited link); None where it is ours, or empty as on
        another page."""
        query = dict(st.query_params)
        if time.monotonic() - self._written_at < LAG or not query or not self._written or query == self._written:
            return None
        return query

    def write(self, query: dict[str, str]) -> None:
        """Show a query, unless it stands there already."""
        if query != self._written or dict(st.query_params) != query:
            self._written, self._written_at = query, time.monotonic()
            st.query_params.from_dict(query)


def address(path: str, query: dict[str, str]) -> str:
    """A link to a page of this server, as the visitor reaches it."""
    parts = urlsplit(st.context.url or "http://localhost:8501/")
    base = "/" + str(st.get_option("server.baseUrlPath") or "").strip("/")
    where = f"{base.rstrip('/')}/{path}"
    return urlunsplit((parts.scheme, parts.netloc, where, urlencode(query, safe=":;=,"), ""))
