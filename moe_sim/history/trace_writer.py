"""Writes a trace, line by line, so that others can read it meanwhile."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from moe_sim.config.errors import InvalidInput
from moe_sim.history.files import CannotWriteError, locked, make_directory
from moe_sim.history.trace import TraceHistory, trace_file
from moe_sim.history.trace_format import FILE_NAME, TraceHeader, TraceRecord, header_line, record_line

THINNED_FROM = 64 * 2**20
"""Bytes of a trace from which records become rarer: half as many at this size, a quarter at one and a half times it,
and so on. So a trace of any length stays a file that can be opened."""


class TraceWriter:
    """Appends records to the trace in a folder. A torn line at its end, left by a process that was killed, stays there
    and is passed over by readers.

    Args:
        folder: of the trace; created if missing.
        header: what is recorded.

    Raises:
        CannotWriteError: if the file cannot be written, or another process is writing it.
        InvalidInput: if the folder holds the trace of a model with other layers.
    """

    def __init__(self, folder: str | os.PathLike[str], header: TraceHeader) -> None:
        path = Path(folder)
        make_directory(path)
        self.path = path / FILE_NAME
        self.last_step = 0
        """The step of the newest record."""
        self._locks = ExitStack()
        self._locks.enter_context(locked(self.path))
        try:
            if self.path.exists() and self.path.stat().st_size:
                self._continue(header)
            self._file = self.path.open("ab", buffering=0)
        except BaseException:
            self._locks.close()
            raise
        if self._file.tell() and not self._ends_a_line():
            self._file.write(b"\n")
        self._file.write(header_line(header))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def rarer(self) -> int:
        """By how much records should be rarer than was asked for, because the file has become large: 1, 2, 4, …"""
        size = self._file.tell()
        return 1 if size < THINNED_FROM else 2 ** (1 + 2 * (size - THINNED_FROM) // THINNED_FROM)

    def write(self, record: TraceRecord) -> None:
        """Appends a record. Readers see all of it or nothing.

        Raises:
            CannotWriteError: if the disk is full, or the file cannot be reached any more.
        """
        try:
            self._file.write(record_line(record))
        except OSError as error:
            raise CannotWriteError(
                f"Cannot write {self.path}: {(error.strerror or 'unknown error').lower()}."
            ) from None
        self.last_step = max(self.last_step, record.step)

    def close(self) -> None:
        """Ends writing. Closing twice does nothing."""
        self._file.close()
        self._locks.close()

    def _continue(self, header: TraceHeader) -> None:
        before = TraceHistory(trace_file(self.path))
        shapes = [[(layer.name, layer.num_experts) for layer in one.layers] for one in (before.header, header)]
        if shapes[0] != shapes[1] or before.header.groups != header.groups:
            raise InvalidInput(f"{self.path} holds the trace of a model with other layers; choose another folder.")
        self.last_step = int(before.last("step")) if len(before) else 0

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
