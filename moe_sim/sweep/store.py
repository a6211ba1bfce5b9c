"""Where a sweep keeps its results: a table that is complete or not there, and a journal until it is."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from pydantic import ValidationError

from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.history.files import CannotWriteError, check_writable, make_directory, write_whole
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.table import DTYPES, ENDINGS, frame_to_rows, read_table, write_table
from moe_sim.sweep.untrusted_files import NotASweepError
from moe_sim.sweep.worker import DIVERGED, DONE, Row


class Store:
    """The rows of a file, by run. What was added is on disk when `add` returns, in a journal beside the file, also if
    this process is killed; `finish` makes the file of it. One sweep at a time may use a file.

    Raises:
        NotASweepError: if the file or its journal is something else; it stays as it is.
        CannotWriteError: if results could not be kept there.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in ENDINGS:
            raise NotASweepError(f"{str(path)[-40:]!r} must end in one of {', '.join(ENDINGS)}.")
        check_writable(path)
        self.path = path
        self.journal = path.with_name(f"{path.name}.partial")
        kept = frame_to_rows(read_table(path)) if path.exists() else []
        kept += _read_journal(self.journal) if self.journal.exists() else []
        try:
            self._rows = {_cell_of(row).key: row for row in kept}
        except ValidationError:
            raise NotASweepError(
                f"{path} is not a table of this program's sweeps: a configuration cannot be."
            ) from None

    @property
    def rows(self) -> list[Row]:
        """All rows, also those of other grids."""
        return list(self._rows.values())

    def row(self, cell: Cell) -> Row | None:
        """The row of a run that has been done; None if it has not, or failed."""
        row = self._rows.get(cell.key)
        return row if row and row["status"] in (DONE, DIVERGED) else None

    def add(self, row: Row) -> None:
        """Keep a row, in place of an older one of the same run.

        Raises:
            CannotWriteError: if that cannot be.
        """
        try:
            with self.journal.open("ab") as journal:
                journal.write(json.dumps(row).encode() + b"\n")
        except OSError as error:
            raise CannotWriteError(f"Cannot write {self.journal}: {error.strerror}.") from None
        self._rows[_cell_of(row).key] = row

    def include(self, rows: Iterable[Row]) -> None:
        """Take rows that another store has kept; they are on disk here only after `finish`."""
        self._rows |= {_cell_of(row).key: row for row in rows}

    def finish(self, cells: Collection[Cell]) -> None:
        """Write the file whole: rows of other grids first, as they stood, then those of `cells` in their order.

        Raises:
            CannotWriteError: if it cannot be written; the journal stays then.
        """
        of_grid = {cell.key for cell in cells}
        first = [row for key, row in self._rows.items() if key not in of_grid]
        write_table([*first, *(self._rows[cell.key] for cell in cells if cell.key in self._rows)], self.path)
        self.journal.unlink(missing_ok=True)


class Histories:
    """A directory with one run as JSON for each cell, named by the column `run`; each opens in the app.

    Raises:
        CannotWriteError: if nothing can be written there.
    """

    def __init__(self, directory: Path) -> None:
        make_directory(directory)
        self._directory = directory

    def has(self, cell: Cell) -> bool:
        """Whether a run's file is there."""
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
    """The rows of a journal. A last line that was cut off by the end of its process is cut off the file, too, so that
    the next row begins a line."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        rows = [{}]
    if not all(isinstance(row, dict) and set(row) == set(DTYPES) for row in rows):
        raise NotASweepError(f"{path} is not the journal of a sweep of this program.")
    if len(whole) < len(content):
        with path.open("r+b") as journal:
            journal.truncate(len(whole))
    return rows


def _cell_of(row: Row) -> Cell:
    return Cell(RunConfig(**{name: row[name] for name in KNOBS}), row["steps"])
