"""A plain table with the columns step, layer, expert and tokens, as CSV or Parquet.

No tool's format, so without versions: Parquet of any version that the installed pyarrow reads; CSV in UTF-8 with commas
and a header.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from moe_sim.config.errors import InvalidInput, UserError
from moe_sim.config.extras import require
from moe_sim.history.trace_format import LARGEST_STEP, MOST_CELLS, MOST_LAYERS
from moe_sim.tracing.importing.imported import LARGEST_TOTAL, Counts, Imported, Options

COLUMNS = ("step", "layer", "expert", "tokens")
MOST_ROWS = 10_000_000


def read_table(path: Path, options: Options) -> Imported:
    """One row for each expert that got tokens in a layer and a step; layers by number or by name. Rows of the same
    step, layer and expert are added up. Other columns are passed over.

    Raises:
        InvalidInput: with a sentence, if it is something else.
        MissingPackage: if Parquet cannot be read here.
    """
    frame = _frame(path)
    step, expert, tokens = (_whole(frame[name], name, path.name) for name in ("step", "expert", "tokens"))
    if len(expert) and expert.max() >= MOST_CELLS:
        raise InvalidInput(f"{path.name} has an expert number {expert.max()}; at most {MOST_CELLS - 1:,} can be read.")
    if tokens.sum(dtype=float) > LARGEST_TOTAL:
        raise InvalidInput(f"{path.name} has more than {LARGEST_TOTAL:,} tokens.")
    names, layer = _layers(frame["layer"], path.name)
    counts, width = Counts(), int(expert.max()) + 1 if len(expert) else 0
    place = np.lexsort((layer, step))
    ends = np.flatnonzero(np.diff(step[place]) | np.diff(layer[place])) + 1
    for rows in np.split(place, ends) if len(place) else []:
        row = np.zeros(width, np.int64)
        np.add.at(row, expert[rows], tokens[rows])
        counts.add(int(step[rows[0]]), int(layer[rows[0]]), row, int(row.sum()))
    return counts.imported(dict(enumerate(names)), "", options)


def _frame(path: Path) -> Any:
    """The columns of a table.

    Raises:
        InvalidInput: if it is none, or has too many rows.
    """
    try:
        frame = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or 'not a table').lower()}.") from None
    except UserError:
        raise
    except Exception:  # of the many kinds that pandas and Arrow raise for files that are damaged
        raise InvalidInput(f"{path.name} is not a table.") from None
    if len(frame) > MOST_ROWS:
        raise _too_long(path)
    return frame


def _read_parquet(path: Path) -> Any:
    require("pyarrow", "Reading Parquet")
    from pyarrow import parquet

    # As a dictionary, or one long name in a tiny file becomes gigabytes of copies.
    with path.open("rb") as content, parquet.ParquetFile(content, read_dictionary=["layer"]) as file:
        _check_names(file.schema_arrow.names, path)
        if file.metadata.num_rows > MOST_ROWS:  # before reading: a tiny file can hold billions of equal rows
            raise _too_long(path)
        return file.read(columns=list(COLUMNS)).to_pandas(ignore_metadata=True)


def _read_csv(path: Path) -> Any:
    import pandas as pd

    def read(rows: int, **more: Any) -> Any:
        return pd.read_csv(path, nrows=rows, skipinitialspace=True, index_col=False, compression=None, **more)

    given = [str(name) for name in read(0).columns]
    names = [name.strip() for name in given]
    _check_names(names, path)
    kept = {given[names.index(name)]: name for name in COLUMNS}
    layer = given[names.index("layer")]
    return read(MOST_ROWS + 1, usecols=list(kept), dtype={layer: str}, low_memory=False).rename(columns=kept)


def _check_names(names: list[str], path: Path) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InvalidInput(f"{path.name} has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")


def _too_long(path: Path) -> InvalidInput:
    return InvalidInput(f"{path.name} has more than {MOST_ROWS:,} rows; import fewer steps at once.")


def _whole(column: Any, name: str, file: str) -> np.ndarray:
    values = column.to_numpy()
    if values.dtype.kind == "f" and np.array_equal(values, np.floor(values)) and (abs(values) < LARGEST_STEP).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu" or (len(values) and (values.min() < 0 or values.max() > LARGEST_STEP)):
        raise InvalidInput(f"The column {name} of {file} must hold whole numbers from 0.")
    return values.astype(np.int64)


def _layers(column: Any, file: str) -> tuple[list[str], np.ndarray]:
    """The names of the layers in their order, and the index of each row's layer.

    Raises:
        InvalidInput: if a layer has neither a number nor a name, or there are too many.
    """
    rows, found = column.factorize()
    known = all(isinstance(one, str | int | float | np.number) and not isinstance(one, bool) for one in found)
    if (rows < 0).any() or not known:
        raise InvalidInput(f"The column layer of {file} must hold numbers or names.")
    if len(found) > MOST_LAYERS:
        raise InvalidInput(f"{file} has more than {MOST_LAYERS:,} layers.")
    labels = [_label(str(one).strip()) for one in found]
    names = sorted({*labels}, key=_natural)
    return names, np.array([names.index(label) for label in labels], np.int64)[rows]


def _label(name: str) -> str:
    """A number may have been stored as a float: 2.0."""
    number = re.fullmatch(r"([0-9]{1,18})(\.0)?", name)
    return f"layers.{number[1]}" if number else name


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Names by the numbers in them: layer 2 before layer 10."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(1, int(part), "") if index % 2 else (0, 0, part) for index, part in enumerate(parts)]
