"""History → JSON; `moe_sim.history.from_json` is the inverse.

    {"format": "expert-collapse-lab-run", "version": 2,
     "configuration": {knob: value, …},                          every knob, at step 0
     "events": [{"step": 240, "changes": {knob: value}}, …],     changed after that many steps
     "history": {column: [value per step], …},                   [[value per expert] per step] for per-expert columns
     "probe": {"step": …, "expert": […], "dropped": […], "joint": [[…]], "together": [[…]]} or null}

Numbers are written with enough digits to restore them exactly. JSON has no non-finite numbers: NaN is `null`, ±∞ is
`"inf"` and `"-inf"`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from moe_sim.config.errors import InvalidInput
from moe_sim.config.versions import VERSION
from moe_sim.history.columns import column_positions
from moe_sim.history.history import History
from moe_sim.history.probe import Probe

FORMAT = "expert-collapse-lab-run"
LARGEST_TEXT = 40_000_000
"""The maximum number of characters of a document: about 34,000 steps with 8 experts, 7,600 with 64."""
MOST_EVENTS = 1_000

NOUNS = {"balancing": "balancing mechanism", "task": "task"}
WHOLE_NUMBERS = ("step", "dead_experts")
INFINITIES = {"inf": np.inf, "-inf": -np.inf}


def run_to_json(history: History, probe: Probe | None = None) -> str:
    """A run as one document of strict JSON, from which `run_from_json` restores it exactly.

    Args:
        history: the run; another thread may be appending to it.
        probe: the newest routing of the held-out tokens, for the routing map.

    Raises:
        InvalidInput: for a run with a balancing mechanism or a task of its user's own.
    """
    if history.own_parts:
        own = " and ".join(f"{NOUNS[kind]} {name}" for kind, name in history.own_parts.items())
        raise InvalidInput(
            f"This run cannot be written as JSON: a file does not hold the {own}, without which nobody can compute it "
            "again. run_to_csv and to_frame() hold its numbers."
        )
    events = history.events  # read before the length, so that no event is later than the last row
    table = history.rows()
    positions = column_positions(history.num_layers, history.initial_config.num_experts)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "configuration": history.initial_config.model_dump(),
        "events": [{"step": event.step, "changes": event.changes} for event in events],
        "history": {name: _column(name, table[:, position]) for name, position in positions.items()},
        "probe": None if probe is None else _probe(probe),
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def _column(name: str, values: np.ndarray) -> list[Any]:
    if name in WHOLE_NUMBERS:
        return values.astype(np.int64).tolist()
    if np.isfinite(values).all():
        return values.tolist()
    words = values.astype(object)
    words[np.isnan(values)] = None
    for word, infinity in INFINITIES.items():
        words[values == infinity] = word
    return words.tolist()


def _probe(probe: Probe) -> dict[str, Any]:
    return {
        "step": probe.step,
        "expert": probe.expert.ravel().tolist(),
        "dropped": probe.dropped.ravel().tolist(),
        "joint": probe.joint.reshape(-1, probe.joint.shape[-1]).tolist(),
        "together": probe.together.reshape(-1, probe.together.shape[-1]).tolist(),
    }
