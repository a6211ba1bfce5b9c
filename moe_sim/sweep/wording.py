"""Text for sweeps: the command line, suggested values, durations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moe_sim.config.codec import format_value
from moe_sim.config.knobs import KNOBS, Knob
from moe_sim.sweep.grid import Grid

MOST_SUGGESTED = 7
DECADES = "0,0.001,0.01,0.03,0.1,1,10"
"""Suggested α: it takes powers of ten to see a difference."""


def command_of(grid: Grid, out: str = "sweep.parquet") -> str:
    """The command line that runs a sweep."""
    base = grid.base.model_dump()
    moved = {name: value for name, value in base.items() if name not in grid.axes and value != KNOBS[name].default}
    texts = {name: format_value(value) for name, value in moved.items() if name != "seed"}
    texts |= {name: values_in_words(values) for name, values in grid.axes.items()}
    seeds = f"--seeds {grid.seeds}"
    if "seed" in moved:
        seeds = f"seed={grid.base.seed}" + (f"..{grid.base.seed + grid.seeds - 1}" if grid.seeds > 1 else "")
    knobs = (f"{name}={text}" for name, text in texts.items())
    return " ".join(["python -m moe_sim sweep", *knobs, seeds, f"--steps {grid.steps}", f"--out {out}"])


def values_in_words(values: Sequence[Any]) -> str:
    """Values in the command line's format."""
    return ",".join(format_value(value) for value in values)


def suggested_values(knob: Knob) -> str:
    """Values of a knob for a first sweep."""
    if knob.name == "aux_loss_coef":
        return DECADES
    if knob.choices:
        return values_in_words(knob.choices)
    if knob.kind is str:
        return "off,1-2"
    if knob.kind is bool:
        return values_in_words((False, True))
    if knob.stops:
        places = {round(i * (len(knob.stops) - 1) / (MOST_SUGGESTED - 1)) for i in range(MOST_SUGGESTED)}
        return values_in_words([knob.stops[place] for place in sorted(places)])
    if not knob.default:
        return f"{knob.minimum:g}..{knob.maximum:g}:4"
    multiples = (knob.kind(knob.default * factor) for factor in (0.5, 1, 2, 4))
    return values_in_words([value for value in multiples if knob.minimum <= value <= knob.maximum])


def duration(seconds: float) -> str:
    """A duration in round numbers."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
