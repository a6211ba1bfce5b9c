"""Rows of a sweep as a table: typed columns, in Parquet or CSV."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_sim.config.knobs import KNOBS
from moe_sim.diagnosis.final_metrics import FinalMetrics
from moe_sim.history.files import write_whole
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
_OUTCOMES = {"bool": "bool", "int": "int64", "float": "float64", "int | None": "Int64"}
DTYPES: dict[str, str] = {
    "run": "str",
    **{name: _KINDS[knob.kind] for name, knob in KNOBS.items()},
    "steps": "int64",
    **{field.name: _OUTCOMES[str(field.type)] for field in fields(FinalMetrics)},
    "status": "str",
    "error": "str",
}
"""pandas dtype by column. A capacity factor that is off is an empty cell, as is whatever a run has no value for."""

MOST_ROWS = 1_000_000
"""Rows of a table that is still read."""

_NULLABLE = {
    name for name, dtype in DTYPES.items() if dtype in ("Int64", "str") or (name in KNOBS and KNOBS[name].optional)
}


def rows_to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a run, with the columns of `DTYPES`."""
    import pandas as pd  # here, because it takes half a second to load

    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in DTYPES.items()})


def frame_to_rows(frame: pd.DataFrame) -> list[Row]:
    """The way back, in plain Python values."""
    columns = {name: _plain(name, frame[name]) for name in DTYPES}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write a table whole, in the format that the name ends in.

    Raises:
        CannotWriteError: if it cannot be written.
    """
    write_whole(path, table_bytes(rows, path.suffix.lower()))


def table_bytes(rows: Sequence[Row], ending: str) -> bytes:
    """The content of a file with one of `ENDINGS`."""
    frame = rows_to_frame(rows)
    if ending == ".csv":
        from moe_sim.history.to_csv import frame_to_csv  # here, because it brings the drawing of figures with it

        return frame_to_csv(frame).encode()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def read_table(path: Path) -> pd.DataFrame:
    """A table that `write_table` wrote.

    Raises:
        NotASweepError: if the file is something else.
    """
    try:
        return table_from(path.read_bytes(), path.suffix.lower(), foreign=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotASweepError(f"{path} is not a table that can be read: {error.strerror}.") from None
    except NotASweepError as error:
        raise NotASweepError(f"{path} is not a table of this program's sweeps: {error}.") from None


def table_from(content: bytes, ending: str, most_rows: int = MOST_ROWS, *, foreign: bool = True) -> pd.DataFrame:
    """A table out of the content of a file with one of `ENDINGS`.

    Args:
        content: the file.
        ending: its kind.
        most_rows: a file of more is not unpacked.
        foreign: whether somebody else may have made it, who is not to reach this process.

    Raises:
        NotASweepError: if it is something else, in words that complete “It is not one: …”; `TooManyRowsError` for more
            rows.
    """
    import pandas as pd

    names, texts = tuple(DTYPES), tuple(name for name, dtype in DTYPES.items() if dtype == "str")
    if ending == ".csv":
        columns: Columns = columns_of_csv(content, names, most_rows)
    else:
        read = columns_of_foreign_parquet if foreign else columns_of_parquet
        columns = read(content, names, texts, most_rows)
    try:
        if ending == ".csv":
            columns = {name: _values(name, columns[name]) for name in names}
        return pd.DataFrame({name: pd.Series(columns[name], dtype=DTYPES[name]) for name in names})
    except (TypeError, ValueError, OverflowError, KeyError):
        raise NotASweepError("its columns hold something else") from None


def _values(name: str, cells: Sequence[str]) -> list[Any]:
    """What the cells of a CSV file stand for."""
    from moe_sim.history.to_csv import unescape

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
