"""Rows of a sweep as a table with typed columns, in Parquet or CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.versions import ADDED
from moe_sim.diagnosis.final_metrics import FinalMetrics
from moe_sim.history.files import write_whole
from moe_sim.history.to_csv import frame_to_csv, unescape
from moe_sim.history.to_parquet import frame_to_parquet
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.untrusted_files import (
    Columns,
    NotASweepError,
    columns_of_csv,
    columns_of_foreign_parquet,
    columns_of_parquet,
)
from moe_sim.sweep.worker import Row

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".parquet", ".csv")

_KINDS = {bool: "bool", int: "int64", float: "float64", str: "str"}
_METRICS = {bool: "bool", int: "int64", float: "float64", int | None: "Int64"}
DTYPES: dict[str, str] = {
    "run": "str",
    **{name: _KINDS[knob.kind] for name, knob in KNOBS.items()},
    "steps": "int64",
    **{name: _METRICS[kind] for name, kind in get_type_hints(FinalMetrics).items()},
    "status": "str",
    "error": "str",
}
"""pandas dtype by column. Missing values are empty cells, and so is a capacity factor of off."""

MOST_ROWS = 1_000_000
"""Rows of the largest table that is read."""

_NULLABLE = {
    name for name, dtype in DTYPES.items() if dtype in ("Int64", "str") or (name in KNOBS and KNOBS[name].optional)
}


def cell_of(row: Row) -> Cell:
    """The run of a row.

    Raises:
        ValueError: (pydantic's ValidationError) if its configuration is invalid.
    """
    return Cell(RunConfig(**{name: row[name] for name in KNOBS}), row["steps"])


def updated(row: Row) -> Row:
    """A row of an earlier version as one of this version: with the knobs added since, under the name that its run has
    now."""
    missing = {name: value for name, value in ADDED.items() if name not in row}
    if not missing:
        return row
    row = {**row, **missing}
    return row | {"run": cell_of(row).run} if set(row) == set(DTYPES) else row


def rows_to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One table row per run, with the columns of `DTYPES`."""
    import pandas as pd  # here, because it takes two seconds to load

    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in DTYPES.items()})


def frame_to_rows(frame: pd.DataFrame) -> list[Row]:
    """The inverse of `rows_to_frame`, in plain Python values."""
    columns = {name: _plain(name, frame[name]) for name in DTYPES}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write a whole table in the format given by the file's suffix.

    Raises:
        CannotWriteError: if it cannot be written.
    """
    write_whole(path, table_bytes(rows, path.suffix.lower()))


def table_bytes(rows: Sequence[Row], ending: str) -> bytes:
    """The content of a file with one of `ENDINGS`."""
    frame = rows_to_frame(rows)
    if ending == ".csv":
        return frame_to_csv(frame).encode()
    return frame_to_parquet(frame, "sweep")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote.

    Raises:
        NotASweepError: if the file holds something else.
    """
    try:
        return table_from(path.read_bytes(), path.suffix.lower(), foreign=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotASweepError(f"{path} cannot be read: {error.strerror}.") from None
    except NotASweepError as error:
        raise NotASweepError(f"{path} is not a table written by this program's sweeps: {error}.") from None


def table_from(content: bytes, ending: str, most_rows: int = MOST_ROWS, *, foreign: bool = True) -> pd.DataFrame:
    """Parse a table from the content of a file with one of `ENDINGS`.

    Args:
        content: the file.
        ending: its suffix.
        most_rows: a file with more rows is rejected before it is unpacked.
        foreign: whether the file is untrusted; if so, Parquet is parsed in a separate process.

    Raises:
        NotASweepError: if it is something else; the message completes “It is not a table: …”. `TooManyRowsError` if it
            has too many rows.
    """
    import pandas as pd

    names, texts = [name for name in DTYPES if name not in ADDED], [n for n, dtype in DTYPES.items() if dtype == "str"]
    if ending == ".csv":
        columns: Columns = columns_of_csv(content, names, list(ADDED), most_rows)
    else:
        read = columns_of_foreign_parquet if foreign else columns_of_parquet
        columns = read(content, names, list(ADDED), texts, most_rows)
    missing = [name for name in ADDED if name not in columns]
    try:
        if ending == ".csv":
            columns = {name: _values(name, cells) for name, cells in columns.items()}
        columns = {**columns, **{name: [ADDED[name]] * len(columns["run"]) for name in missing}}
        frame = pd.DataFrame({name: pd.Series(columns[name], dtype=dtype) for name, dtype in DTYPES.items()})
        return frame.assign(run=[cell_of(row).run for row in frame_to_rows(frame)]) if missing else frame
    except (TypeError, ValueError, OverflowError, KeyError):
        raise NotASweepError("its columns hold unexpected values") from None


def _values(name: str, cells: Sequence[str]) -> list[Any]:
    """Parse the cells of a CSV column."""
    readers: dict[str, Callable[[str], Any]] = {
        "bool": {"True": True, "False": False}.__getitem__, "int64": int,
        "Int64": lambda cell: int(cell) if cell else None, "float64": lambda cell: float(cell) if cell else None,
        "str": lambda cell: unescape(cell) if cell else None,
    }  # fmt: skip
    return [readers[DTYPES[name]](cell) for cell in cells]


def _plain(name: str, column: pd.Series) -> list[Any]:
    values = column.tolist()
    if name not in _NULLABLE:
        return values
    return [None if missing else value for value, missing in zip(values, column.isna(), strict=True)]
