"""Tables as Parquet whose columns say what they mean."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from moe_sim.config.extras import require
from moe_sim.history.column_meanings import Table, meaning_of

if TYPE_CHECKING:
    import pandas as pd


def frame_to_parquet(frame: pd.DataFrame, table: Table) -> bytes:
    """A table as Parquet without its index. The metadata of each field that is known have its `meaning`, its `unit`,
    the steps it is taken `over`, and what it is of several `layers`, as far as it has them.

    Raises:
        MissingPackage: without pyarrow.
    """
    require("pyarrow", "A Parquet file")
    import pyarrow as pa
    from pyarrow import parquet

    content = pa.Table.from_pandas(frame, preserve_index=False)
    fields = []
    for field in content.schema:
        column = meaning_of(field.name, table)
        fields.append(field if column is None else field.with_metadata({k: v for k, v in vars(column).items() if v}))
    described = content.cast(pa.schema(fields, content.schema.metadata))
    buffer = io.BytesIO()
    parquet.write_table(described, buffer)
    return buffer.getvalue()
