"""The state of the router in every layer of a model that was watched.

Layers have the names of their modules, and experts are counted from 0, as the model counts them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe_sim.config.thresholds import Thresholds
from moe_sim.config.words import percent, plural
from moe_sim.diagnosis.load import LoadReading
from moe_sim.diagnosis.model_advice import more_balancing, no_gradient
from moe_sim.diagnosis.verdict import LEVELS, SETTLING_STEPS, TREND_STEPS, Diagnosis
from moe_sim.history.trace import TraceHistory
from moe_sim.metrics import DEAD_SHARE, dead_experts

FEW_CHOICES = 100
"""A load of fewer token choices per expert says little."""


def diagnose_trace(history: TraceHistory, thresholds: Thresholds | None = None) -> Diagnosis:
    """Judges a model by its worst layer, which `Diagnosis.layer` names."""
    if not len(history):
        return Diagnosis("Ready", "neutral", "Nothing is recorded yet.")
    verdicts = diagnose_layers(history, thresholds)
    worst = ranking(history, verdicts)[0]
    verdict = verdicts[worst]
    alike = sum(one.state == verdict.state for one in verdicts) - 1
    evidence = f"{history.layer_names[worst]}: {verdict.evidence[0].lower()}{verdict.evidence[1:]}"
    if alike and verdict.level in ("warning", "bad"):
        evidence += f" {verdict.state} too: {plural(alike, 'other layer')}."
    elif verdict.level == "good" and history.num_layers > 1:
        fine, layers = sum(one.level == "good" for one in verdicts), history.num_layers
        how_many = f"{fine} of {layers} layers fine, too few tokens in the rest"  # nothing is worse than good
        if fine == layers:
            how_many = f"All {layers} layers are fine"
        evidence = f"{how_many}. The least even: {evidence}"
    return replace(verdict, evidence=evidence, layer=worst)


def diagnose_layers(history: TraceHistory, thresholds: Thresholds | None = None) -> list[Diagnosis]:
    """A verdict on each layer, by its newest records."""
    known = thresholds or Thresholds()
    if not len(history):
        return [Diagnosis("Ready", "neutral", "Nothing is recorded yet.")] * history.num_layers
    recent = max(0, len(history) - SETTLING_STEPS)
    choices = history.pairs(recent).sum(0)
    settled = len(history) >= SETTLING_STEPS

    def verdict_on(layer: int) -> Diagnosis:
        if not settled and choices[layer] < FEW_CHOICES * history.header.layers[layer].num_experts:
            evidence = f"Too few tokens so far. The verdict begins at record {SETTLING_STEPS}."
            return Diagnosis("Starting", "neutral", evidence)
        if not choices[layer]:
            evidence = f"No tokens reached this layer in the last {SETTLING_STEPS} records."
            return Diagnosis("Unused", "neutral", evidence)
        return _judge(history, layer, known)

    return [verdict_on(layer) for layer in range(history.num_layers)]


def ranking(history: TraceHistory, verdicts: list[Diagnosis]) -> list[int]:
    """The layers, the worst first: by verdict, then by how much the busiest expert has."""
    busiest = [history.now(layer).max() * history.header.layers[layer].num_experts for layer in range(len(verdicts))]
    return sorted(range(len(verdicts)), key=lambda one: (-LEVELS.index(verdicts[one].level), -busiest[one], one))


def _judge(history: TraceHistory, layer: int, thresholds: Thresholds) -> Diagnosis:
    load = LoadReading.of(history.now(layer), _choices_per_token(history, layer), thresholds)
    warning = no_gradient(history.header)
    advice = " ".join(filter(None, [warning, more_balancing(history.header)]))
    if load.is_collapsed(thresholds):
        evidence = f"Expert {load.busiest} takes {percent(load.token_share)} of the tokens; {load.dead_in_words()}."
        return Diagnosis("Collapsed", "bad", evidence, advice)
    if load.dead or load.outlier or load.idle > load.num_experts / 4:
        evidence = f"{load.dead_in_words().capitalize()}; {load.shares}."
        if _is_recovering(history, layer, thresholds):
            return Diagnosis("Recovering", "recovering", evidence)
        return Diagnosis("Uneven", "warning", evidence, advice)
    back = _back_since(history, layer, thresholds)
    in_use = f"All {load.num_experts} experts are back since step {back:,}" if back else "Every expert is in use"
    evidence = f"{in_use}: {load.shares}."
    if load.idle:
        return Diagnosis(
            "Nearly balanced", "good", evidence, " ".join(filter(None, [load.below_the_band(thresholds), warning]))
        )
    if history.has("router_entropy"):
        entropy = float(np.nan_to_num(history.by_layer("router_entropy", len(history) - 1)[0, layer]))
        if entropy > thresholds.undecided_entropy:
            warning = warning or f"The router hardly tells tokens apart yet: its entropy is {entropy:.2f} out of 1."
    return Diagnosis("Balanced", "good", evidence, warning)


def _choices_per_token(history: TraceHistory, layer: int) -> float:
    """The mean of the last records in which this layer routed anything."""
    top_k = history.by_layer("top_k", max(0, len(history) - SETTLING_STEPS))[:, layer]
    return max(1.0, float(top_k[top_k > 0].mean()))


def _is_recovering(history: TraceHistory, layer: int, thresholds: Thresholds) -> bool:
    """As for our own runs: fewer dead experts than a while ago, or as many and a busiest expert with a tenth less."""
    start = max(0, len(history) - TREND_STEPS)
    before, now = history.of_layers("smoothed_load", start, layer=layer)[[0, -1], 0]
    dead_before, dead_now = (int(dead_experts(load, thresholds.dead_share)) for load in (before, now))
    return dead_now < dead_before or (dead_now == dead_before and bool(now.max() < 0.9 * before.max()))


def _back_since(history: TraceHistory, layer: int, thresholds: Thresholds) -> int | None:
    """The step since which no expert is dead, if some were after the average had settled. Only by the usual threshold,
    by which the history counts them."""
    if thresholds.dead_share != DEAD_SHARE:
        return None
    dead = history.by_layer("dead_experts", SETTLING_STEPS - 1)[:, layer]
    with_dead = np.flatnonzero(dead)
    if not len(with_dead) or with_dead[-1] == len(dead) - 1:
        return None
    return int(history.column("step")[SETTLING_STEPS + with_dead[-1]])
