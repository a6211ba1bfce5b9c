"""Commands of a board, each obeyed once and none lost."""

from __future__ import annotations

from typing import Any

MOST = 20
"""Commands that are taken in at a time. A board tells the rest again."""
LARGEST_NUMBER = 2**53
"""Up to here a browser counts."""
LONGEST_NAME = 40
"""Characters of a board's name."""


class Inbox:
    """What one board has asked for so far. It tells every command again until it hears that it was obeyed: Streamlit
    keeps only the last of several values that a component sets in quick succession.

    What was meant for another session (the page has not noticed yet that its server was started again) is not for us:
    the board tells it again when it has come to know ours.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._board = ""
        self._last = 0

    @property
    def obeyed(self) -> dict[str, Any]:
        """Which board's commands were obeyed, and up to which number."""
        return {"board": self._board, "last": self._last}

    def fresh(self, told: Any) -> list[dict[str, Any]]:
        """The commands of a delivery that are new, in their order. Whatever is not a delivery holds none."""
        match told:
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
