"""Reads a sweep's table that a visitor uploads. The content is untrusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.sweep.measures import MEASURES
from moe_sim.sweep.table import ENDINGS, frame_to_rows, table_from
from moe_sim.sweep.untrusted_files import NotASweepError, TooManyRowsError
from moe_sim.sweep.worker import DIVERGED, DONE, FAILED, STOPPED

if TYPE_CHECKING:
    import pandas as pd

LARGEST_UPLOAD = 20
"""MB. The browser checks this limit, and `opened_table` does so again, since there are other clients."""
MOST_ROWS = 20_000
LARGEST_NUMBER = 1e100
"""The largest value of a measure. Its square must still be finite."""
ROUNDING = 1e-6
LONGEST_NAME = 80
"""Characters of a file name to show."""


def opened_table(name: str, content: bytes) -> pd.DataFrame:
    """Returns the table in a file that `python -m moe_sim sweep` wrote.

    Raises:
        InvalidInput: if the file is something else or too large.
    """
    name = name[-LONGEST_NAME:]
    ending = Path(name).suffix.lower()
    if len(content) > LARGEST_UPLOAD * 1_000_000:
        raise InvalidInput(f"{name} is too large. The limit is {LARGEST_UPLOAD} MB.")
    try:
        if ending not in ENDINGS:
            raise NotASweepError("unknown file extension")
        frame = table_from(content, ending, MOST_ROWS)
        _check(frame)
    except TooManyRowsError:
        raise InvalidInput(f"{name} has more than the {MOST_ROWS:,} rows allowed here.") from None
    except (NotASweepError, ValidationError):
        raise InvalidInput(f"{name} is not a table written by python -m moe_sim sweep.") from None
    return frame


def _check(frame: pd.DataFrame) -> None:
    """Checks that each row is a valid run, so that its link works and its numbers can be plotted."""
    if not set(frame["status"]) <= {DONE, DIVERGED, FAILED, STOPPED}:
        raise NotASweepError("unknown status")
    for name, measure in MEASURES.items():
        numbers, minimum = frame[name].to_numpy(dtype=float, na_value=np.nan), 1 if measure.log else 0
        if ((numbers < minimum - ROUNDING) | ((numbers > LARGEST_NUMBER) & (numbers < np.inf))).any():
            raise NotASweepError("measures out of range")
    for row in frame_to_rows(frame):
        RunConfig(**{name: row[name] for name in KNOBS})
