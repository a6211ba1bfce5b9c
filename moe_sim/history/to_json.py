"""History → JSON. `moe_sim.history.from_json` is the way back.

    {"format": "expert-collapse-lab-run", "version": 1,
     "configuration": {knob: value, …},                          every knob, at step 0
     "events": [{"step": 240, "changes": {knob: value}}, …],     moved after that many steps
     "history": {column: [value a step], …},                     [[value an expert] a step] where there are experts
     "probe": {"step": …, "expert": […], "dropped": […], "joint": [[…]], "together": [[…]]} or null}

A number is written with as many digits as bring it back exactly. JSON has no words for what is not finite: NaN is
`null`, ±∞ is `"inf"` and `"-inf"`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from moe_sim.history.history import PER_CHOICE, PER_EXPERT, SCALARS, History
from moe_sim.history.probe import Probe

FORMAT, VERSION = "expert-collapse-lab-run", 1
LARGEST_TEXT = 40_000_000
"""Characters of a document that is still read: some 34,000 steps with 8 experts, 7,600 with 64."""
MOST_EVENTS = 1_000

COLUMNS = (*SCALARS, *PER_EXPERT, *PER_CHOICE)
WHOLE_NUMBERS = ("step", "dead_experts")
INFINITIES = {"inf": np.inf, "-inf": -np.inf}


def run_to_json(history: History, probe: Probe | None = None) -> str:
    """A run as one document of strict JSON, from which `run_from_json` makes it again, equal to the last digit.

    Args:
        history: the run; it may be going on in another thread.
        probe: the newest routing of the held-out tokens, so that the routing map can be drawn again.
    """
    events = history.events  # before the length: none of them may be later than the last row
    length = len(history)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "configuration": history.initial_config.model_dump(),
        "events": [{"step": event.step, "changes": event.changes} for event in events],
        "history": {name: _column(name, history.column(name, stop=length)) for name in COLUMNS},
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
        "expert": probe.expert.tolist(),
        "dropped": probe.dropped.tolist(),
        "joint": probe.joint.tolist(),
        "together": probe.together.tolist(),
    }
