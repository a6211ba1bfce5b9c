"""Tables as CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moe_sim.history.history import History

if TYPE_CHECKING:
    import pandas as pd

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets take text that starts with one of these for a formula."""


def run_to_csv(history: History) -> str:
    """One row per step with the columns of `History.to_frame`; NaN is an empty cell."""
    return frame_to_csv(history.to_frame())


def frame_to_csv(frame: pd.DataFrame) -> str:
    """A table as CSV without its index. Text that a spreadsheet would evaluate gets a leading apostrophe; numbers keep
    all their digits. Lines end in CR LF, so that a CR in text is quoted."""
    safe = frame.rename(columns=_escape)
    texts = [i for i, dtype in enumerate(safe.dtypes) if dtype.kind not in "iufb"]
    for i in texts:
        safe.isetitem(i, safe.iloc[:, i].map(_escape).astype(object))
    return safe.to_csv(index=False, lineterminator="\r\n")


def unescape(cell: Any) -> Any:
    """Restores the value of a cell from `frame_to_csv`."""
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and cell[1:].startswith(FORMULA_STARTS) else cell


def _escape(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
