"""A Streamlit session without a browser: opens pages, presses buttons and reads what is written there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from tests.bench.load_clients import LARGEST, RUN_ID


class RawSession:
    """One session over a websocket. Made by `raw_session`."""

    def __init__(self, socket: ClientConnection, query: str) -> None:
        self._socket, self._query = socket, query
        self.session_id = ""
        self.run_id = ""
        """The id of the newest run on its pages."""
        self.buttons: dict[str, str] = {}
        """The ids of the buttons so far, by label."""
        self.texts: list[str] = []
        """What the last script run wrote: Markdown, code and notices."""
        self._pages: dict[str, str] = {}
        self._page = ""

    async def run(self, *, press: str | None = None, page: str | None = None, seconds: float = 60) -> None:
        """Runs the script, after pressing the button with this label or turning to a page.

        Raises:
            TimeoutError: if it takes longer than `seconds`.
            KeyError: if there is no such button or page.
        """
        message = BackMsg()
        message.rerun_script.query_string = self._query
        if page is not None:
            self._page = self._pages[page]
        message.rerun_script.page_script_hash = self._page
        if press is not None:
            message.rerun_script.widget_states.widgets.add(id=self.buttons[press], trigger_value=True)
        await self._socket.send(message.SerializeToString())
        self.texts = []
        async with asyncio.timeout(seconds):
            while not self._take(await self._socket.recv()):
                pass

    def _take(self, raw: str | bytes) -> bool:
        """Takes in a message. True if it is the last of a script run."""
        assert isinstance(raw, bytes)
        if found := RUN_ID.search(raw):
            self.run_id = found.group(1).decode()
        answer = ForwardMsg()
        answer.ParseFromString(raw)
        kind = answer.WhichOneof("type")
        if kind == "new_session":
            self.session_id = answer.new_session.initialize.session_id
        elif kind == "navigation":
            self._pages = {page.url_pathname: page.page_script_hash for page in answer.navigation.app_pages}
        elif kind == "page_info_changed":
            self._query = answer.page_info_changed.query_string
        elif kind == "delta":
            element = answer.delta.new_element
            match element.WhichOneof("type"):
                case "button":
                    self.buttons[element.button.label] = element.button.id
                case "markdown":
                    self.texts.append(element.markdown.body)
                case "alert":
                    self.texts.append(element.alert.body)
                case "code":
                    self.texts.append(element.code.code_text)
                case "progress":
                    self.texts.append(element.progress.text)
        return kind == "script_finished"


@asynccontextmanager
async def raw_session(address: str, query: str = "") -> AsyncIterator[RawSession]:
    """A session that has opened the Live page; its connection is lost at the end of the block."""
    parts = urlsplit(address)
    async with connect(f"ws://{parts.netloc}/_stcore/stream", max_size=LARGEST,
                       subprotocols=["streamlit"], origin=address) as socket:  # fmt: skip
        session = RawSession(socket, query)
        await session.run()
        yield session
