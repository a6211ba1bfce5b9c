"""Comparison presets: how the other runs differ from the baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.run_plan import RunPlan

MOST_SEEDS = 1 + int(KNOBS["seed"].maximum or 0)


@dataclass(frozen=True)
class ComparisonPreset:
    """Two to four runs. `changes` is what differs from the defaults in all of them; the first run is the baseline."""

    label: str
    description: str
    departures: tuple[tuple[Event, ...], ...] = ()
    """What each of the other runs changes."""
    changes: dict[str, Any] = field(default_factory=dict)
    more_seeds: int = 0
    """The number of additional runs that repeat the baseline with other seeds."""

    def plans(self, seed: int = 0) -> tuple[RunPlan, ...]:
        """Returns the runs, the baseline first."""
        base = RunPlan(RunConfig(seed=seed, **self.changes))
        seeds = ((seed + number) % MOST_SEEDS for number in range(1, self.more_seeds + 1))
        departures = (*self.departures, *(_from_start(seed=other) for other in seeds))
        return (base, *(base.changed(departure) for departure in departures))


def _from_start(**changes: Any) -> tuple[Event, ...]:
    return (Event(0, changes),)


def _from_step(step: int, **changes: Any) -> tuple[Event, ...]:
    """The defaults until `step`, then these changes."""
    return (Event(0, {name: KNOBS[name].default for name in changes}), Event(step, changes))


COMPARISONS: dict[str, ComparisonPreset] = {
    "four-alphas": ComparisonPreset(
        "Four α", "α = 0, 0.01, 0.1 and 10: too little does nothing, too much destroys specialization.",
        (_from_start(aux_loss_coef=0.01), _from_start(aux_loss_coef=0.1), _from_start(aux_loss_coef=10.0)),
    ),
    "early-and-late": ComparisonPreset(
        "Early and late", "α = 0.1 from the start, from step 100, from step 400 and never: the cost of a late rescue.",
        (_from_step(100, aux_loss_coef=0.1), _from_step(400, aux_loss_coef=0.1), _from_start(aux_loss_coef=0.0)),
        {"aux_loss_coef": 0.1},
    ),
    "which-loop": ComparisonPreset(
        "Which loop?",
        "As it is, with frozen experts, with a router blind to the direction that all tokens share, and with experts "
        "that begin as copies. Guess first which of the four collapse.",
        (_from_start(frozen_experts=True), _from_start(router_blind=True), _from_start(expert_init="copies")),
    ),
    "mechanisms": ComparisonPreset(
        "Mechanisms",
        "The load-balancing loss, a selection bias, expert choice and Sinkhorn, each at its usual strength.",
        (_from_start(balancing="bias"), _from_start(balancing="expert_choice"), _from_start(balancing="sinkhorn")),
        {"aux_loss_coef": 0.1},
    ),
    "balance-scope": ComparisonPreset(
        "Balance scope",
        "The same α = 0.1, counted per sequence, per micro-batch and over the batch. All are even, one specializes.",
        (_from_start(balance_scope="micro_batch"), _from_start(balance_scope="batch")),
        {"aux_loss_coef": 0.1, "sequence_tokens": 16, "balance_scope": "sequence"},
    ),
    "capacity": ComparisonPreset(
        "Capacity", "No limit, a capacity factor of 1 that drops, and one that reroutes, α = 0.",
        (_from_start(capacity_factor=1.0), _from_start(capacity_factor=1.0, overflow="reroute")),
    ),
    "top-k": ComparisonPreset(
        "Top-k", "One, two and four experts per token, α = 0.", (_from_start(top_k=2), _from_start(top_k=4)),
    ),
    "another-seed": ComparisonPreset(
        "Is it chance?", "The same configuration with three more seeds: all collapse, not all onto the same expert.",
        more_seeds=3,
    ),
}  # fmt: skip
