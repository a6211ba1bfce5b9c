"""A sweep's table that a visitor brings along: read with care, for it may be anything."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from moe_sim import KNOBS, RunConfig
from moe_sim.sweep.table import NotASweepError, frame_to_rows, read_table
from moe_sim.sweep.worker import DIVERGED, DONE, FAILED, STOPPED
from moe_sim.usage import UsageError

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20_000


def opened_table(name: str, content: bytes) -> pd.DataFrame:
    """The table in a file that `python -m moe_sim sweep` wrote.

    Raises:
        UsageError: if the file is something else, or too large to be looked at here.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"opened{Path(name).suffix.lower()}"
        path.write_bytes(content)
        try:
            if path.suffix == ".parquet" and _rows_in(path) > MOST_ROWS:
                raise UsageError(f"{name} has more than the {MOST_ROWS:,} rows that can be looked at here.")
            frame = read_table(path)
            _check(frame)
        except (NotASweepError, ValidationError):
            raise UsageError(f"{name} is not a table that python -m moe_sim sweep has written.") from None
    return frame


def _rows_in(path: Path) -> int:
    """Known before anything is unpacked."""
    from pyarrow import ArrowInvalid, parquet  # here, because it takes a while to load

    try:
        return parquet.read_metadata(path).num_rows
    except (ArrowInvalid, OSError):
        raise NotASweepError(str(path)) from None


def _check(frame: pd.DataFrame) -> None:
    """See that each row is a run that can be: its link must work."""
    if len(frame) > MOST_ROWS or not set(frame["status"]) <= {DONE, DIVERGED, FAILED, STOPPED}:
        raise NotASweepError("foreign rows")
    for row in frame_to_rows(frame):
        RunConfig(**{name: row[name] for name in KNOBS})
