"""The commands of a board: each is obeyed once, and none is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

MOST = 20
"""The most commands accepted from one delivery. The board resends the rest."""
LARGEST_NUMBER = 2**53
"""Above this, a browser's integers are not exact."""
LONGEST_NAME = 40
"""Characters of a board's name."""


class Inbox:
    """Receives the commands of one board. The board resends each command until it is confirmed, because Streamlit
    keeps only the last of several values that a component sets in quick succession.

    Commands for another session are ignored: the page has not yet noticed that its server was restarted, and resends
    them once it knows this session.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._board = ""
        self._last = 0
        self._lock = threading.Lock()

    @property
    def obeyed(self) -> dict[str, Any]:
        """The confirmation for the board: its name, and the number of the last command obeyed."""
        return {"board": self._board, "last": self._last}

    def obey(self, read: Callable[[], Any], command: Callable[[dict[str, Any]], None]) -> None:
        """Carries out the new commands of the delivery that `read` returns, one after the other: Streamlit may call
        this for a second delivery while it is still busy with the first."""
        with self._lock:
            for one in self.fresh(read()):
                command(one)

    def fresh(self, delivery: Any) -> list[dict[str, Any]]:
        """The new commands of a delivery, in order; none if it is not a valid delivery."""
        match delivery:
            case {"board": str() as board, "session": self._session, "commands": list() as commands} if (
                len(board) <= LONGEST_NAME
            ):
                if board != self._board:
                    self._board, self._last = board, 0
            case _:
                return []
        new: list[dict[str, Any]] = []
        for command in commands:
            match command:
                case {"name": str(), "number": int() as number} if (
                    self._last < number < LARGEST_NUMBER and len(new) < MOST
                ):
                    self._last = int(number)
                    new.append(command)
        return new
