"""Grants one turn at a time, shared fairly among the keys under which turns are asked for."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter


class Turns:
    """Start-time fair queueing: of the keys that wait, each gets every n-th turn, however many it asks for.

    A key's first turn follows the current one, and each further one comes a round later. Not thread-safe: for one event
    loop.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, str, asyncio.Future[None]]] = []
        """(round, order of arrival, key, turn), as a heap. Turns given up are dropped when they reach the top."""
        self._rounds: dict[str, int] = {}
        """The round of each key's last turn, if it is not over."""
        self._waiting: Counter[str] = Counter()
        self._order = itertools.count()
        self._round, self._taken = 0, False

    def waiting(self, key: str) -> int:
        """Number of turns that wait under a key."""
        return self._waiting[key]

    @property
    def all_waiting(self) -> int:
        """Number of turns that wait."""
        return self._waiting.total()

    def ask(self, key: str) -> asyncio.Future[None]:
        """Returns a future that is done once its turn has come. `end` ends the turn, `withdraw` gives it up."""
        turn = asyncio.get_running_loop().create_future()
        self._rounds[key] = max(self._round, self._rounds.get(key, -1) + 1)
        heapq.heappush(self._queue, (self._rounds[key], next(self._order), key, turn))
        self._waiting[key] += 1
        self._grant()
        return turn

    def withdraw(self, key: str, turn: asyncio.Future[None]) -> None:
        """Gives up a turn, whether it has come or not."""
        if turn.done():
            self.end()
        else:
            turn.cancel()
            self._count_out(key)

    def end(self) -> None:
        """Ends the current turn and grants the next one."""
        self._taken = False
        self._grant()

    def _grant(self) -> None:
        while self._queue and not self._taken:
            self._round, _, key, turn = heapq.heappop(self._queue)
            if not turn.cancelled():
                self._taken = True
                self._count_out(key)
                turn.set_result(None)
        self._rounds = {key: last for key, last in self._rounds.items() if last >= self._round}

    def _count_out(self, key: str) -> None:
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
