"""A plain table with the columns step, layer, expert and tokens, as CSV or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moe_sim.config.errors import InvalidInput
from moe_sim.config.extras import require
from moe_sim.history.trace_format import LARGEST_STEP, MOST_CELLS
from moe_sim.tracing.importing.imported import MOST_COUNTS, Counts, Imported, Options

COLUMNS = ("step", "layer", "expert", "tokens")


def read_table(path: Path, options: Options) -> Imported:
    """One row for each expert that got tokens in a layer and a step; layers by number or by name. Rows of the same
    step, layer and expert are added up.

    Raises:
        InvalidInput: with a sentence, if it is something else.
        MissingPackage: if Parquet cannot be read here.
    """
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            require("pyarrow", "Reading Parquet")
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, nrows=MOST_COUNTS, skipinitialspace=True)
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or 'not a table').lower()}.") from None
    except (ValueError, UnicodeError, MemoryError, OverflowError):
        raise InvalidInput(f"{path.name} is not a table.") from None
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise InvalidInput(f"{path.name} has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")
    step, expert, tokens = (_whole(frame[name], name, path.name) for name in ("step", "expert", "tokens"))
    if len(expert) and expert.max() >= MOST_CELLS:
        raise InvalidInput(f"{path.name} has an expert number {expert.max()}; at most {MOST_CELLS - 1:,} can be read.")
    names, layer = np.unique(frame["layer"].astype(str).to_numpy(), return_inverse=True)
    order = sorted(range(len(names)), key=lambda index: _natural(str(names[index])))
    counts, width = Counts(), int(expert.max()) + 1 if len(expert) else 0
    place = np.lexsort((layer, step))
    ends = np.flatnonzero(np.diff(step[place]) | np.diff(layer[place])) + 1
    for rows in np.split(place, ends) if len(place) else []:
        row = np.zeros(width, np.int64)
        np.add.at(row, expert[rows], tokens[rows])
        counts.add(int(step[rows[0]]), int(layer[rows[0]]), row, int(row.sum()))
    labels = {index: str(names[index]) for index in order}
    named = {index: f"layers.{name}" if name.isdigit() else name for index, name in labels.items()}
    return counts.imported(named, "", options)


def _whole(column: Any, name: str, file: str) -> np.ndarray:
    values = column.to_numpy()
    if values.dtype.kind == "f" and np.array_equal(values, np.floor(values)) and (abs(values) < LARGEST_STEP).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu" or (len(values) and (values.min() < 0 or values.max() > LARGEST_STEP)):
        raise InvalidInput(f"The column {name} of {file} must hold whole numbers from 0.")
    return values.astype(np.int64)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Names by the numbers in them: layer 2 before layer 10."""
    parts = "".join(one if one.isdigit() else f"\0{one}\0" for one in name).split("\0")
    return [(0, int(part[:18]), "") if part.isdigit() else (1, 0, part) for part in parts if part]
