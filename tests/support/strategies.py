"""Hypothesis strategies for configurations and run plans."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from pydantic import ValidationError

from moe_sim import KNOBS, Event, RunConfig
from moe_sim.config.knob import Knob
from moe_sim.config.run_config import MOST_HIDDEN, MOST_WORK
from moe_sim.config.run_plan import RunPlan

LIVE = tuple(name for name, knob in KNOBS.items() if knob.live)


def values(knob: Knob) -> st.SearchStrategy[Any]:
    """Every valid value of a knob."""
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.kind is bool:
        return st.booleans()
    if knob.kind is str:
        return st.sampled_from((None, "1-2") if knob.has_widget else (None,))
    numbers = st.integers if knob.kind is int else st.floats
    allowed = numbers(knob.minimum, knob.maximum)
    return st.none() | allowed if knob.optional else allowed


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    """Any valid configuration."""
    chosen = {name: draw(values(knob)) for name, knob in KNOBS.items()}
    chosen["top_k"] = min(chosen["top_k"], chosen["num_experts"])
    if chosen["task"] == "language":
        chosen["batch_tokens"] = max(64, chosen["batch_tokens"] // 64 * 64)
    for name in ("sequence_tokens", "micro_batches"):
        if chosen["batch_tokens"] % chosen[name]:
            chosen[name] = KNOBS[name].default
    if chosen["batch_tokens"] % chosen["micro_batches"] and chosen["balance_scope"] == "micro_batch":
        chosen["balance_scope"] = "batch"
    of_step = chosen["batch_tokens"] * (chosen["top_k"] + chosen["shared_experts"])
    largest = min(
        MOST_HIDDEN // (chosen["num_experts"] + chosen["shared_experts"]) // chosen["expert_hidden_size"],
        MOST_WORK // of_step // chosen["expert_hidden_size"],
    )
    chosen["num_layers"] = min(chosen["num_layers"], largest)
    chosen["renormalize"] = chosen["renormalize"] and chosen["top_k"] > 1 and chosen["balancing"] != "expert_choice"
    return RunConfig(**chosen)


@st.composite
def plans(draw: st.DrawFn, config: st.SearchStrategy[RunConfig] | None = None) -> RunPlan:
    """Any run plan: up to four events, some without effect, some at the same step."""
    start = valid = draw(configs() if config is None else config)
    events = []
    for step in sorted(draw(st.lists(st.integers(0, 6), max_size=4))):
        names = draw(st.lists(st.sampled_from(LIVE), min_size=1, max_size=3, unique=True))
        changes = {name: draw(values(KNOBS[name])) for name in names}
        try:
            valid = valid.replace(**changes)
        except ValidationError:
            continue
        events.append(Event(step, changes))
    return RunPlan(start, tuple(events))
