"""Rows of a sweep as a table: typed columns, in Parquet or CSV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_sim.files import write_whole
from moe_sim.knobs import KNOBS
from moe_sim.outcome import Outcome
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
    **{field.name: _OUTCOMES[str(field.type)] for field in fields(Outcome)},
    "status": "str",
    "error": "str",
}
"""pandas dtype by column. A capacity factor that is off is an empty cell, as is whatever a run has no value for."""

_NULLABLE = {
    name for name, dtype in DTYPES.items() if dtype in ("Int64", "str") or (name in KNOBS and KNOBS[name].optional)
}


class NotASweepError(Exception):
    """A file is not what a sweep wrote. The message is a sentence for the user."""


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
        from moe_sim.export.table import frame_to_csv  # here, because it brings the drawing of figures with it

        return frame_to_csv(frame).encode()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def read_table(path: Path) -> pd.DataFrame:
    """A table that `write_table` wrote.

    Raises:
        NotASweepError: if the file is something else.
    """
    import pandas as pd

    try:
        frame = _read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:  # pyarrow's and pandas's errors are ValueErrors
        if isinstance(error, FileNotFoundError):
            raise
        raise NotASweepError(f"{path} is not a table that a sweep wrote.") from None
    missing = [name for name in DTYPES if name not in frame]
    if missing:
        raise NotASweepError(f"{path} is not a table of this program's sweeps: it has no column {missing[0]}.")
    try:
        return frame[list(DTYPES)].astype(DTYPES)
    except (TypeError, ValueError):
        raise NotASweepError(f"{path} is not a table that a sweep wrote: its columns hold something else.") from None


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    from moe_sim.export.table import unescape

    frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=DTYPES)
    for name in ("run", "status", "error"):
        if name in frame:
            frame[name] = frame[name].map(unescape)
    return frame


def _plain(name: str, column: pd.Series) -> list[Any]:
    values = column.tolist()
    if name not in _NULLABLE:
        return values
    return [None if missing else value for value, missing in zip(values, column.isna(), strict=True)]
