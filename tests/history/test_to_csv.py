"""CSV export has every number in full and nothing that a spreadsheet would evaluate."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd

from moe_sim import Trainer
from moe_sim.history.to_csv import frame_to_csv, run_to_csv


def test_a_table_has_every_number_in_full(trainer: Trainer) -> None:
    frame = trainer.history.to_frame()
    names, *rows = csv.reader(io.StringIO(run_to_csv(trainer.history), newline=""))
    assert names == list(frame.columns)
    assert len(rows) == len(frame)
    for name, cells in zip(names, zip(*rows, strict=True), strict=False):
        if frame[name].dtype.kind in "iuf":
            numbers = [float(cell) if cell else np.nan for cell in cells]
            np.testing.assert_array_equal(numbers, frame[name], err_msg=name)
        else:
            assert list(cells) == frame[name].astype(str).tolist(), name


def test_text_that_a_spreadsheet_would_evaluate_gets_an_apostrophe_and_numbers_do_not() -> None:
    words = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "harmless", "a=b", ""]
    frame = pd.DataFrame({"=cmd": words, "number": [-1.5, *range(8)], "mixed": [-1, "-1", None, True, *"abcde"]})
    rows = list(csv.reader(io.StringIO(frame_to_csv(frame), newline="")))
    assert rows[0] == ["'=cmd", "number", "mixed"]
    assert [row[0] for row in rows[1:]] == [f"'{word}" for word in words[:6]] + words[6:]
    assert [row[1] for row in rows[1:3]] == ["-1.5", "0.0"]
    assert [row[2] for row in rows[1:5]] == ["-1", "'-1", "", "True"]
    assert list(frame.columns) == ["=cmd", "number", "mixed"]
    assert frame["=cmd"].tolist() == words
