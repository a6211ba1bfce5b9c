"""A sweep's table that a visitor brings along: read with care, for it may be anything."""

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
"""MB. The browser holds to it, and so does `opened_table`, for there are other clients."""
MOST_ROWS = 20_000
LARGEST_NUMBER = 1e100
"""Of a measure; its square must still be one."""
ROUNDING = 1e-6
LONGEST_NAME = 80
"""Characters of a file's name that are shown."""


def opened_table(name: str, content: bytes) -> pd.DataFrame:
    """The table in a file that `python -m moe_sim sweep` wrote.

    Raises:
        InvalidInput: if the file is something else, or too large to be looked at here.
    """
    name = name[-LONGEST_NAME:]
    ending = Path(name).suffix.lower()
    if len(content) > LARGEST_UPLOAD * 1_000_000:
        raise InvalidInput(f"{name} is too large: at most {LARGEST_UPLOAD} MB can be looked at here.")
    try:
        if ending not in ENDINGS:
            raise NotASweepError("another kind of file")
        frame = table_from(content, ending, MOST_ROWS)
        _check(frame)
    except TooManyRowsError:
        raise InvalidInput(f"{name} has more than the {MOST_ROWS:,} rows that can be looked at here.") from None
    except (NotASweepError, ValidationError):
        raise InvalidInput(f"{name} is not a table that python -m moe_sim sweep has written.") from None
    return frame


def _check(frame: pd.DataFrame) -> None:
    """See that each row is a run that can be: its link must work, and its numbers must go onto a chart."""
    if not set(frame["status"]) <= {DONE, DIVERGED, FAILED, STOPPED}:
        raise NotASweepError("foreign rows")
    for name, measure in MEASURES.items():
        numbers, least = frame[name].to_numpy(dtype=float, na_value=np.nan), 1 if measure.log else 0
        if ((numbers < least - ROUNDING) | ((numbers > LARGEST_NUMBER) & (numbers < np.inf))).any():
            raise NotASweepError("numbers that no run has")
    for row in frame_to_rows(frame):
        RunConfig(**{name: row[name] for name in KNOBS})
