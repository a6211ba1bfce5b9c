"""Formats a sweep as a short text table: one line per combination, with means over its seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from moe_sim.config.codec import format_value
from moe_sim.sweep.worker import FAILED, Row

SHOWN = (
    ("task_loss", "task loss", 3),
    ("max_load", "max load", 2),
    ("dead_experts", "dead experts", 1),
    ("specialization", "specialization", 2),
)
"""Column, title, digits."""


def summary_text(rows: Sequence[Row], axes: Sequence[str]) -> str:
    """Mean ± standard deviation over the runs that did not fail, by combination; the value alone if there is one run.

    Args:
        rows: the sweep's rows.
        axes: the knobs that distinguish the combinations.
    """
    combinations: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["status"] != FAILED:
            combinations.setdefault(tuple(format_value(row[name]) for name in axes), []).append(row)
    lines = [[*axes, "runs", *(title for _, title, _ in SHOWN)]]
    lines += [
        [*values, str(len(group)), *(_spread([row[name] for row in group], digits) for name, _, digits in SHOWN)]
        for values, group in combinations.items()
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip


def _spread(values: Sequence[float | None], digits: int) -> str:
    known = np.array([value for value in values if value is not None and not math.isnan(value)])
    if not len(known):
        return "–"
    spread = f" ± {known.std():.{digits}f}" if len(known) > 1 else ""
    return f"{known.mean():.{digits}f}{spread}"
