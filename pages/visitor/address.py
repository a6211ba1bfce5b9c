"""The query in the browser's address bar, which the page and the visitor both change."""

from __future__ import annotations

import math
import time
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import streamlit as st

LAG = 3.0
"""Seconds during which a browser may still report the address before our last change."""


class AddressBar:
    """One visitor's address bar."""

    def __init__(self) -> None:
        self._written: dict[str, str] = {}
        self._written_at = -math.inf
        self._opened: dict[str, str] = {}
        self._opened_at = -math.inf
        self._gone_back_to: dict[str, str] = {}

    @property
    def written(self) -> dict[str, str]:
        """The query that was written last."""
        return self._written

    def put_by_visitor(self) -> dict[str, str] | None:
        """Returns the query that the visitor opened (back button, edited link). None if the query is ours, or empty as
        on another page."""
        query, self._gone_back_to = self._gone_back_to, {}
        if not query and time.monotonic() - self._written_at >= LAG:
            query = dict(st.query_params)
        if not query or not self._written or query == self._written:
            return None
        self._opened, self._opened_at = query, time.monotonic()
        return query

    def go_back_to(self, text: str) -> None:
        """Takes a query string for the visitor's, even within `LAG`, when a script run may already have overwritten it
        in the browser. Has no effect if a script run has just opened it."""
        query = dict(parse_qsl(text.removeprefix("?"), keep_blank_values=True))
        if query != self._opened or time.monotonic() - self._opened_at >= LAG:
            self._gone_back_to = query

    def write(self, query: dict[str, str]) -> None:
        """Writes a query, unless it is already there."""
        if query != self._written or dict(st.query_params) != query:
            self._written, self._written_at = query, time.monotonic()
            st.query_params.from_dict(query)


def address(path: str, query: dict[str, str]) -> str:
    """Returns a link to a page of this server, with the host name that the visitor uses."""
    parts = urlsplit(st.context.url or "http://localhost:8501/")
    base = "/" + str(st.get_option("server.baseUrlPath") or "").strip("/")
    where = f"{base.rstrip('/')}/{path}"
    return urlunsplit((parts.scheme, parts.netloc, where, urlencode(query, safe=":;=,"), ""))
