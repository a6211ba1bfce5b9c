"""Saves the results of a sweep: in a journal while it runs, then in a table written all at once."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from moe_sim.config.extras import require
from moe_sim.history.files import CannotWriteError, check_writable, locked, make_directory, write_whole
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.table import DTYPES, ENDINGS, cell_of, frame_to_rows, read_table, updated, write_table
from moe_sim.sweep.untrusted_files import NotASweepError
from moe_sim.sweep.worker import DIVERGED, DONE, Row

LOCK_TIMEOUT = 60.0
"""Seconds to wait for another sweep that reads or writes the same file."""


class Store:
    """The rows of a file, by run. `add` appends each row to a journal beside the file, which survives the death of this
    process; `finish` writes the file. Sweeps may share a file: each step is done under its lock, and `finish` keeps
    what others have added meanwhile.

    Raises:
        NotASweepError: if the file or its journal holds something else; it is left unchanged.
        CannotWriteError: if results could not be saved there.
        MissingPackage: for a Parquet file without pyarrow.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in ENDINGS:
            raise NotASweepError(f"{str(path)[-40:]!r} must end in one of {', '.join(ENDINGS)}.")
        if path.suffix.lower() == ".parquet":
            require("pyarrow", "A Parquet file")
        check_writable(path)
        self.path = path
        self.journal = path.with_name(f"{path.name}.partial")
        self._rows: dict[str, Row] = {}
        with self._locked():
            self._include_the_disk()

    @property
    def rows(self) -> list[Row]:
        """All rows, including those of other grids."""
        return list(self._rows.values())

    def row(self, cell: Cell) -> Row | None:
        """The row of a finished run; None if it is missing or failed."""
        row = self._rows.get(cell.key)
        return row if row and _is_finished(row) else None

    def add(self, row: Row) -> None:
        """Save a row, replacing an older one of the same run.

        Raises:
            CannotWriteError: if it cannot be written.
        """
        with self._locked():
            try:
                with self.journal.open("ab+") as journal:
                    _remove_incomplete_line(journal)
                    journal.write(json.dumps(row).encode() + b"\n")
            except OSError as error:
                raise CannotWriteError(f"Cannot write {self.journal}: {error.strerror}.") from None
        self._rows[cell_of(row).key] = row

    def include(self, rows: Iterable[Row]) -> None:
        """Add rows that are saved elsewhere, for `finish` to write. A failed row does not replace a finished one."""
        for row in rows:
            key = cell_of(row).key
            if key not in self._rows or _is_finished(row) or not _is_finished(self._rows[key]):
                self._rows[key] = row

    def finish(self, cells: Collection[Cell]) -> None:
        """Write the whole file: rows of other grids first, in their old order, then those of `cells` in order.

        Raises:
            CannotWriteError: if it cannot be written; the journal is kept.
            NotASweepError: if the file now holds something else; the journal is kept.
        """
        of_grid = {cell.key for cell in cells}
        with self._locked():
            self._include_the_disk()
            first = [row for key, row in self._rows.items() if key not in of_grid]
            write_table([*first, *(self._rows[cell.key] for cell in cells if cell.key in self._rows)], self.path)
            self.journal.unlink(missing_ok=True)

    def _include_the_disk(self) -> None:
        rows = frame_to_rows(read_table(self.path)) if self.path.exists() else []
        rows += _read_journal(self.journal) if self.journal.exists() else []
        try:
            self.include(rows)
        except ValidationError:
            raise NotASweepError(
                f"{self.path} is not a table written by this program's sweeps: it has an invalid configuration."
            ) from None

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.path, LOCK_TIMEOUT)


class Histories:
    """A directory of runs as JSON, one per cell, named by the column `run`; each opens in the app.

    Raises:
        CannotWriteError: if the directory is not writable.
    """

    def __init__(self, directory: Path) -> None:
        make_directory(directory)
        self._directory = directory

    def has(self, cell: Cell) -> bool:
        """Whether a run's file exists."""
        return self._path(cell).exists()

    def keep(self, cell: Cell, document: str) -> None:
        """Write a run's file.

        Raises:
            CannotWriteError: if it cannot be written.
        """
        write_whole(self._path(cell), document.encode())

    def _path(self, cell: Cell) -> Path:
        return self._directory / f"{cell.run}.json"


def _read_journal(path: Path) -> list[Row]:
    """The rows of a journal. An incomplete last line, left by a process that died, is removed from the file."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        rows = [updated(json.loads(line)) for line in whole.splitlines()]
    except (ValueError, TypeError):
        rows = [{}]
    if not all(set(row) == set(DTYPES) for row in rows):
        raise NotASweepError(f"{path} is not a journal written by this program's sweeps.")
    if len(whole) < len(content):
        with path.open("ab+") as journal:
            _remove_incomplete_line(journal)
    return rows


def _remove_incomplete_line(journal: BinaryIO) -> None:
    """Let the next row start a new line."""
    if journal.seek(0, os.SEEK_END) == 0:
        return
    journal.seek(-1, os.SEEK_END)
    if journal.read() != b"\n":
        journal.seek(0)
        journal.truncate(journal.read().rfind(b"\n") + 1)


def _is_finished(row: Row) -> bool:
    return row["status"] in (DONE, DIVERGED)
