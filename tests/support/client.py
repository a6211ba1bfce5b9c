"""A client of the live stream in Python: what pages/dashboard/js/store.js and bindings.js make of its messages."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import numpy as np

from moe_sim.history.series import SIGNALS
from moe_sim.server.messages import LETTERS


class Client:
    """Follows one run, message by message, and remembers what it was told."""

    def __init__(self, num_experts: int) -> None:
        self.num_experts = num_experts
        self.steps = 0
        self.rows: dict[str, list[float | None]] = {}
        """Columns over steps; the smoothed load flattened row by row."""
        self.coarse: dict[str, list[float | None]] = {}
        """Columns over blocks of ten steps, flattened row by row; all signals in one."""
        self.latest: dict[str, Any] = {"events": []}

    def apply(self, text: str) -> None:
        """Take in a message that goes on where the last one ended, or begins before."""
        message = json.loads(text, parse_constant=_not_json)
        assert message["from"] <= self.steps <= message["to"], "a gap"
        known = self.steps - message["from"]
        for name, values in message["rows"].items():
            wide = name == "smoothed_load"
            new = letter_pairs(values).tolist() if wide else values
            self.rows.setdefault(name, []).extend(new[known * (self.num_experts if wide else 1) :])
        known = self.steps // 10 - message["from"] // 10
        for name, values in message["coarse"].items():
            width = len(SIGNALS) if name == "signals" else self.num_experts
            self.coarse.setdefault(name, []).extend(values[known * width :])
        self.steps = message["to"]
        self.latest |= message

    def smoothed_load(self) -> np.ndarray:
        """(n, E)."""
        return np.array(self.rows["smoothed_load"]).reshape(-1, self.num_experts)

    def blocks(self, name: str) -> np.ndarray:
        """(n, E) of a per-expert coarse column."""
        return np.array(self.coarse[name]).reshape(-1, self.num_experts)

    def signals(self) -> dict[str, np.ndarray]:
        """Each of `SIGNALS`, (n,); NaN where the message has null."""
        table = np.array(self.coarse["signals"], dtype=float).reshape(-1, len(SIGNALS))
        return dict(zip(SIGNALS, table.T, strict=True))

    def now(self, name: str) -> np.ndarray:
        """Shares as they are now."""
        return letter_pairs(self.latest["now"][name])

    def matrix(self, name: str) -> np.ndarray:
        """(n, E) shares."""
        return np.reshape([LETTERS.index(letter) / 63 for letter in self.latest[name]], (-1, self.num_experts))

    def experts(self) -> list[int]:
        """The expert that takes each held-out token; with up to 8 experts maybe one more than there are tokens."""
        numbers = [LETTERS.index(letter) for letter in self.latest["map"]]
        if self.num_experts > 8:
            return numbers
        return [expert for number in numbers for expert in (number >> 3, number & 7)]

    def dropped(self, tokens: int) -> np.ndarray:
        """(tokens,) bool."""
        if not self.latest["dropped"]:
            return np.zeros(tokens, dtype=bool)
        return np.unpackbits(np.frombuffer(b64decode(self.latest["dropped"]), np.uint8))[:tokens].astype(bool)


def letter_pairs(text: str) -> np.ndarray:
    """Shares from pairs of letters, in units of 1/4095."""
    digits = np.array([LETTERS.index(letter) for letter in text], dtype=float)
    return (64 * digits[::2] + digits[1::2]) / 4095


def _not_json(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")
