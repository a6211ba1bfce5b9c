"""Parses the columns of a sweep's table from untrusted files; little is unpacked before it is known to be small.

pyarrow can still crash its process: some broken Parquet files make it call `abort`. A server therefore reads them with
`columns_of_foreign_parquet`, in a separate process that runs this file and nothing else of ours.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import FileMetaData

LARGEST_FOOTER = 1_000_000
"""Bytes of a Parquet file's footer; ours have about 30,000."""
MOST_PARTS = 1_000
"""Columns, row groups or levels that a Parquet file may declare."""
LARGEST_UNPACKED = 200_000_000
"""Unpacked size of all columns in bytes, as the file declares it."""
CODECS = {"SNAPPY", "UNCOMPRESSED"}
"""Our files use the first. Other codecs can expand a byte a thousandfold, and a file may lie about its size."""
LONGEST_CELL = 400
"""Bytes of a text cell in a Parquet file."""
LONGEST_LINE = 20_000
"""Bytes of a line of CSV."""
LARGEST_PROCESS = 4_000_000_000
"""Bytes of address space for the process that reads a foreign Parquet file. Most of it is never used."""
TIMEOUT = 20.0
"""Timeout in seconds for reading a foreign Parquet file; a large one takes two."""

Columns = Mapping[str, Sequence[Any]]

_one_at_a_time = Lock()


class NotASweepError(Exception):
    """A file was not written by a sweep. The message is a sentence for the user, or the end of one."""


class TooManyRowsError(NotASweepError):
    """A table has more rows than are allowed."""

    def __init__(self, most_rows: int) -> None:
        super().__init__(f"it has more than {most_rows:,} rows")


def columns_of_parquet(
    content: bytes, names: Sequence[str], optional: Sequence[str], texts: Sequence[str], most_rows: int
) -> Columns:  # fmt: skip
    """Read some columns of a Parquet file.

    Args:
        content: the file.
        names: the columns to read.
        optional: more columns, which the file may lack.
        texts: those of them that hold texts; a text repeated in many rows is unpacked once.
        most_rows: a file with more rows is rejected before it is unpacked.

    Returns:
        The cells of each column, None where empty. The file's pandas metadata is ignored.

    Raises:
        NotASweepError: if it is something else, lacks a column, or would be too large unpacked; `TooManyRowsError` if
            it has too many rows.
    """
    import pyarrow as pa  # imported here: it loads slowly
    from pyarrow import parquet

    if not 0 < int.from_bytes(content[-8:-4], "little") <= LARGEST_FOOTER:
        raise NotASweepError("it does not end like a Parquet file")
    try:
        opened = partial(
            parquet.ParquetFile, pa.BufferReader(content), arrow_extensions_enabled=False,
            thrift_string_size_limit=LARGEST_FOOTER, thrift_container_size_limit=MOST_PARTS,
        )  # fmt: skip
        about = opened()
        _see_that_it_is_small(about.metadata, most_rows)
        found = [about.schema.column(number).path for number in range(len(about.schema))]
        wanted = _wanted(names, optional, found)
        file = opened(metadata=about.metadata, read_dictionary=[name for name in texts if name in wanted])
        table = file.read(columns=wanted)
        return {name: _unpacked(table.column(name)).to_pylist() for name in wanted}
    except (pa.ArrowException, OSError, ValueError, KeyError):
        raise NotASweepError("it is not a readable Parquet file") from None


def columns_of_foreign_parquet(
    content: bytes, names: Sequence[str], optional: Sequence[str], texts: Sequence[str], most_rows: int
) -> Columns:  # fmt: skip
    """Run `columns_of_parquet` in a separate process, with limits on its time and memory; it may crash."""
    request = json.dumps({"names": names, "optional": optional, "texts": texts, "most_rows": most_rows})
    try:
        with _one_at_a_time:
            done = subprocess.run([sys.executable, "-P", __file__, request], input=content, capture_output=True,
                                  timeout=TIMEOUT, check=True)  # fmt: skip
        answer = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        raise NotASweepError("it is not a readable Parquet file") from None
    if answer.get("too_many_rows"):
        raise TooManyRowsError(most_rows)
    if "refused" in answer:
        raise NotASweepError(answer["refused"])
    return answer["columns"]


def _see_that_it_is_small(metadata: FileMetaData, most_rows: int) -> None:
    """Check the sizes that the file declares, before anything is unpacked."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if max(metadata.num_rows, sum(group.num_rows for group in groups)) > most_rows:
        raise TooManyRowsError(most_rows)
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    if sum(chunk.total_uncompressed_size for chunk in chunks) > LARGEST_UNPACKED:
        raise NotASweepError("it is too large unpacked")
    if not {chunk.compression for chunk in chunks} <= CODECS:
        raise NotASweepError("it uses another compression than ours")


def _wanted(names: Sequence[str], optional: Sequence[str], found: Sequence[str]) -> list[str]:
    """The columns to read of those found."""
    missing = [name for name in names if name not in found]
    if missing:
        raise NotASweepError(f"it has no column {missing[0]}")
    if len(set(found)) < len(found):
        raise NotASweepError("it has a duplicate column")
    return [*names, *(name for name in optional if name in found)]


def _unpacked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of plain values; texts are expanded only once they are known to be short."""
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_dictionary(column.type):
        return column
    longest = [compute.max(compute.binary_length(chunk.dictionary)).as_py() or 0 for chunk in column.chunks]
    if max(longest, default=0) > LONGEST_CELL:
        raise NotASweepError("it has texts that are too long")
    return column.cast(pa.string())


def columns_of_csv(content: bytes, names: Sequence[str], optional: Sequence[str], most_rows: int) -> Columns:
    """Read some columns of a CSV file with one row per line.

    Returns:
        The cells of each column as text.

    Raises:
        NotASweepError: if it is something else or lacks a column; `TooManyRowsError` if it has too many rows.
    """
    lines = content.removesuffix(b"\n").split(b"\n", most_rows + 1)
    if len(lines) > most_rows + 1:
        raise TooManyRowsError(most_rows)
    header, *rows = [_cells(line.removesuffix(b"\r")) for line in lines]
    wanted = _wanted(names, optional, header)
    if {len(row) for row in rows} - {len(header)}:
        raise NotASweepError("its lines have different numbers of cells")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    return {name: columns.get(name, ()) for name in wanted}


def _cells(line: bytes) -> list[str]:
    if len(line) > LONGEST_LINE:
        raise NotASweepError("it has lines that are too long")
    try:
        return next(csv.reader([line.decode("utf-8")], strict=True), [])
    except (csv.Error, UnicodeDecodeError):
        raise NotASweepError("it is not a readable CSV file") from None


def _answer() -> None:
    """Serve `columns_of_foreign_parquet`, in the process that it starts."""
    request = json.loads(sys.argv[1])
    try:
        _limit_memory()
        answer: dict[str, Any] = {"columns": columns_of_parquet(sys.stdin.buffer.read(), **request)}
    except TooManyRowsError:
        answer = {"too_many_rows": True}
    except NotASweepError as error:
        answer = {"refused": str(error)}
    json.dump(answer, sys.stdout)


def _limit_memory() -> None:
    """Limit the address space where the system supports it."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (LARGEST_PROCESS, LARGEST_PROCESS))


if __name__ == "__main__":
    _answer()
