"""What every column means: its unit, the steps it is taken over, and how the numbers of several layers become one.

L layers, E experts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

from moe_sim.config.knob import Knob
from moe_sim.config.knobs import KNOBS
from moe_sim.history.columns import (
    BY_LAYER,
    EACH,
    OF_LAYERS,
    PAIRS,
    PER_CHOICE,
    PER_EXPERT,
    SMOOTHED,
    WORST,
    StepRecord,
)

Table = Literal["run", "trace", "sweep"]
"""The steps of a run of ours; the records of a trace; the runs of a sweep."""
TABLES: dict[Table, str] = {
    "run": "A run: `History.column`, `to_frame()`, train --out FILE.csv",
    "trace": "A trace of another model: `TraceHistory.column`, `to_frame()`, trace export",
    "sweep": "A sweep: one row per run",
}
"""The tables, and where they are found."""
LAST_50 = "mean of the last 50 steps"
LAST_SMOOTHED = "smoothed, at the last step"
LAST_EVALUATION = "at the last evaluation"
MEAN, WORST_LAYER, EACH_LAYER = "mean of the layers", "the worst layer", "each layer"


@dataclass(frozen=True)
class ColumnMeaning:
    """What a column holds."""

    meaning: str
    unit: str = ""
    """Empty for a pure number or a text."""
    over: str = ""
    """The steps or records that a value is taken over."""
    layers: str = ""
    """What a value is of several layers; empty if it belongs to the whole run."""

    @property
    def details(self) -> str:
        """The unit, the steps and the layers in one line."""
        return "; ".join(filter(None, [self.unit, self.over, self.layers]))


def _layers_of(name: str) -> str:
    if name in PER_EXPERT + PER_CHOICE:
        return EACH_LAYER
    return (WORST_LAYER if name in WORST else MEAN) if name in OF_LAYERS else ""


_OF_RECORD = {one.name: ColumnMeaning(**one.metadata, layers=_layers_of(one.name)) for one in fields(StepRecord)}


def _of_knob(knob: Knob, over: str) -> ColumnMeaning:
    return ColumnMeaning(f"{knob.label}: {knob.help.rstrip('.')}", over=over)


def _at_the_end(name: str, over: str) -> ColumnMeaning:
    return replace(_OF_RECORD[name], over=over)


_PLACE = {
    "layer": ColumnMeaning("The layer, in a table with one row per step, layer and expert: its number from 0, or its "
                           "module's name in a trace"),
    "expert": ColumnMeaning("The expert, in a table with one row per step, layer and expert: its number from 0"),
}  # fmt: skip
_OF_TRACE = (
    "imbalance_ratio", "max_violation", "load_cv", "load_entropy", "efficiency", "dead_experts", "router_entropy",
    "router_logit_rms", "router_logit_max", "balance_loss", "specialization", "load", "smoothed_load", "importance",
)  # fmt: skip
"""Columns that mean the same in a trace as in a run."""

COLUMN_MEANINGS: dict[Table, dict[str, ColumnMeaning]] = {
    "run": {
        **_OF_RECORD,
        **{name: _of_knob(knob, "in force at the step") for name, knob in KNOBS.items() if knob.live},
        **_PLACE,
    },
    "trace": {
        "step": ColumnMeaning("The step of the training that was watched"),
        **{name: _OF_RECORD[name] for name in _OF_TRACE},
        "smoothed_imbalance": ColumnMeaning("Largest / smallest smoothed load; ∞ if an expert got nothing", "",
                                            SMOOTHED, WORST_LAYER),
        "busiest_share": ColumnMeaning("The largest smoothed load", PAIRS, SMOOTHED, WORST_LAYER),
        "top_k": ColumnMeaning("Experts per token: token choices / tokens", "experts", EACH, MEAN),
        "eval_load": ColumnMeaning("`load` in evaluation mode; NaN without an evaluation", PAIRS, EACH, EACH_LAYER),
        **_PLACE,
    },
    "sweep": {
        "run": ColumnMeaning("The name of the run, made of its configuration and its number of steps"),
        **{name: _of_knob(knob, "at the start") for name, knob in KNOBS.items()},
        "steps": ColumnMeaning("Planned steps", "steps"),
        "steps_done": ColumnMeaning("Steps done, fewer than planned if the run diverged", "steps"),
        "diverged": ColumnMeaning("Whether a loss or gradient was not finite"),
        "max_load": ColumnMeaning("The largest load of an expert", PAIRS, LAST_SMOOTHED, WORST_LAYER),
        "imbalance_ratio": _at_the_end("imbalance_ratio", LAST_SMOOTHED),
        "dead_experts": _at_the_end("dead_experts", LAST_SMOOTHED),
        "task_loss": _at_the_end("task_loss", LAST_50),
        "balance_loss": _at_the_end("balance_loss", LAST_50),
        "dropped_fraction": _at_the_end("dropped_fraction", LAST_50),
        "unserved_fraction": _at_the_end("unserved_fraction", LAST_50),
        "router_entropy": _at_the_end("router_entropy", LAST_50),
        "load_entropy": _at_the_end("load_entropy", LAST_50),
        "specialization": _at_the_end("specialization", LAST_SMOOTHED),
        "eval_task_loss": _at_the_end("eval_task_loss", LAST_50),
        "eval_max_load": ColumnMeaning("The largest load of an expert, of held-out tokens in inference", PAIRS,
                                       LAST_EVALUATION, WORST_LAYER),
        "first_dead_step": ColumnMeaning("The first step, from 20 on, with a dead expert; empty if there was none"),
        "status": ColumnMeaning("done, diverged, failed or stopped"),
        "error": ColumnMeaning("Why the run failed"),
    },
}  # fmt: skip
"""What the columns of each table mean, by name. A trace also has what was logged beside the routing, under its name."""


def meaning_of(name: str, table: Table = "run") -> ColumnMeaning | None:
    """What a column means, also one of a single layer or expert: `load_1_3`, `balance_loss_1`, `z_loss_by_layer`. None
    for a number that a trace has logged."""
    known = COLUMN_MEANINGS[table]
    if name in known:
        return known[name]
    base = re.sub(rf"({BY_LAYER}|(_\d+)+)$", "", name)
    return replace(known[base], layers=EACH_LAYER) if base in known else None


def in_words(table: Table) -> Iterator[str]:
    """Two lines about each column of a table."""
    for name, column in COLUMN_MEANINGS[table].items():
        yield f"{name}\n    {column.meaning}." + (f"\n    {column.details}" if column.details else "")


def described(tables: Iterable[Table] = tuple(TABLES)) -> str:
    """The columns of some tables as text."""
    return "\n\n".join("\n".join([TABLES[table], *in_words(table)]) for table in tables)


__doc__ = f"{__doc__}\n{described()}\n"  # what help() shows
