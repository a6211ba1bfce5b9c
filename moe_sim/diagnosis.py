"""What state is the router in, by which evidence, and what to try next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from moe_sim.codec import format_value
from moe_sim.config import RunConfig
from moe_sim.history import Event, History
from moe_sim.metrics import SMOOTHING_HORIZON

Level = Literal["neutral", "good", "warning", "bad"]

SETTLING_STEPS = SMOOTHING_HORIZON
"""Before this step, and this long after a knob was moved, the smoothed load still speaks of what was before."""
COLLAPSE_SHARE = 0.5
"""One expert above half of the tokens: the usual definition of collapse."""
HEALTHY_BAND = (0.5, 2.0)
"""Loads between these multiples of 1/E are healthy; with few experts the upper end is nearer (see below)."""
WAY_TO_COLLAPSE = 3 / 7
"""How far a load may go from 1/E, all alike, towards 1/K, all tokens on the same K experts. For E = 8 and K = 1 this is
one half; with two experts, where twice the uniform share is everything, it is 5/7."""
DEAD_SHARE = 0.1
"""An expert below this multiple of 1/E is dead."""
UNDECIDED_ENTROPY = 0.95
"""A router whose normalized entropy is above this hardly tells tokens apart."""
EXCESSIVE_ALPHA = 1.0
"""Ten times the upper end of the usual range, 0.01 to 0.1."""
MANY_DROPPED = 0.2


@dataclass(frozen=True)
class Diagnosis:
    """The state line: a word, the evidence for it, and advice; `level` gives colour and icon."""

    state: str
    level: Level
    evidence: str
    advice: str = ""


def diagnose(history: History, config: RunConfig, *, diverged: bool = False, failed: bool = False) -> Diagnosis:
    """Judge a run by its newest steps.

    Args:
        history: what the run has done so far.
        config: the configuration in force now.
        diverged: the trainer met a number that is not finite.
        failed: an unexpected error ended the run.
    """
    if failed:
        return Diagnosis(
            "Stopped", "bad",
            f"An unexpected error ended this run after step {len(history)}; everything shown is as it was then.",
            "Press Reset; with many experts and tokens the machine may be out of memory.",
        )  # fmt: skip
    if diverged:
        return _diverged(history, config)
    if not len(history):
        return Diagnosis("Ready", "neutral", _outlook(config))
    task_loss = history.column("task_loss")
    if task_loss[-SMOOTHING_HORIZON:].mean() > 3 * task_loss[0]:
        return Diagnosis(
            "Exploding", "bad", f"Task loss went from {task_loss[0]:.2f} to {task_loss[-1]:.3g}.",
            f"Reset with a learning rate far below {format_value(config.learning_rate)}; 0.003 is the default.",
        )  # fmt: skip
    if len(history) < SETTLING_STEPS:
        return Diagnosis("Starting", "neutral", "The router has just begun to choose.")

    load = history.last("smoothed_load")
    num_experts, busiest = len(load), int(load.argmax())
    token_share = float(load[busiest] * config.top_k)
    dead = int(history.last("dead_experts"))
    dropped = float(history.column("dropped_fraction")[-SMOOTHING_HORIZON:].mean())
    outlier = load[busiest] > highest_healthy_load(num_experts, config.top_k)

    if (token_share > COLLAPSE_SHARE and outlier) or dead >= num_experts / 2:
        return _collapsed(history, config, busiest, token_share, dead, num_experts)
    if dropped > MANY_DROPPED:
        return Diagnosis(
            "Dropping tokens", "warning",
            f"Capacity drops {_percent(dropped)} of the token choices; {_dead_words(dead, num_experts)}.",
            _raise_alpha(config, "so that the load evens out before the cap has to"),
        )  # fmt: skip
    undecided = float(history.column("router_entropy")[-SMOOTHING_HORIZON:].mean())
    if config.balancing != "none" and config.aux_loss_coef >= EXCESSIVE_ALPHA and undecided > UNDECIDED_ENTROPY:
        return Diagnosis(
            "Over-balanced", "warning",
            f"Even, but undecided: router entropy is {undecided:.2f} of 1, specialization "
            f"{history.last('specialization'):.2f}.",
            "Lower α to between 0.01 and 0.1.",
        )  # fmt: skip
    shares = f"shares from {_percent(load.min())} to {_percent(load.max())}"
    if dead or outlier or load.min() * num_experts < HEALTHY_BAND[0]:
        evidence = f"{_dead_words(dead, num_experts).capitalize()}; {shares}."
        change = _last_rescue(history)
        if change is not None and len(history) - change.step < 300:
            return Diagnosis("Recovering", "warning", evidence, _since(history, change))
        advice = _raise_alpha(config, "a little") if dead else "Close to the healthy band of 0.5/E to 2/E."
        return Diagnosis("Uneven", "warning", evidence, advice)
    change = _last_rescue(history)
    return Diagnosis("Balanced", "good", f"Every expert works: {shares}.", _since(history, change) if change else "")


def highest_healthy_load(num_experts: int, top_k: int) -> float:
    """The load above which an expert has too much, for any E and K: never reached by balanced routing."""
    uniform = 1 / num_experts
    return min(HEALTHY_BAND[1] * uniform, uniform + WAY_TO_COLLAPSE * (1 / top_k - uniform)) + 1e-9


def _outlook(config: RunConfig) -> str:
    if config.task == "topics" and config.aux_loss_coef == 0 and config.capacity_factor is None:
        return "Nothing balances this router. Press Train and watch who gets the tokens."
    return "Press Train and watch who gets the tokens."


def _diverged(history: History, config: RunConfig) -> Diagnosis:
    return Diagnosis(
        "Diverged", "bad",
        f"A loss or gradient was not finite after step {len(history)}; everything shown is the last healthy state.",
        f"Reset and lower the learning rate (now {format_value(config.learning_rate)}) or the weight of a loss.",
    )  # fmt: skip


def _collapsed(
    history: History, config: RunConfig, busiest: int, token_share: float, dead: int, num_experts: int
) -> Diagnosis:
    evidence = f"Expert {busiest + 1} takes {_percent(token_share)} of the tokens; {_dead_words(dead, num_experts)}."
    change = _last_rescue(history)
    if change is not None and len(history) - change.step < 3 * SETTLING_STEPS:
        return Diagnosis("Collapsed", "bad", evidence, "α was raised just now: give it some 50 steps.")
    return Diagnosis("Collapsed", "bad", evidence, _raise_alpha(config, ""))


def _raise_alpha(config: RunConfig, purpose: str) -> str:
    if config.balancing == "none":
        return "Choose a balancing loss and α between 0.03 and 0.1."
    if config.aux_loss_coef < 0.01:
        return f"Try α between 0.03 and 0.1{' ' + purpose if len(purpose) > 10 else ''}."
    if config.aux_loss_coef >= EXCESSIVE_ALPHA:
        return ""
    return f"Raise α two or three times, to about {2.5 * config.aux_loss_coef:.2g}."


def _last_rescue(history: History) -> Event | None:
    """The newest raise of α."""
    alpha = history.initial_config.aux_loss_coef
    rescue = None
    for event in history.events:
        if event.changes.get("aux_loss_coef", alpha) > alpha:
            rescue = event
        alpha = event.changes.get("aux_loss_coef", alpha)
    return rescue


def _since(history: History, change: Event) -> str:
    """What the task loss did since a knob was moved, mean over 20 steps against mean over 20 steps."""
    task_loss = history.column("task_loss")
    before = task_loss[max(0, change.step - SMOOTHING_HORIZON) : change.step]
    if not len(before):
        return ""
    now = np.mean(task_loss[-SMOOTHING_HORIZON:])
    return f"Task loss {before.mean():.2f} → {now:.2f} since α was raised at step {change.step}."


def _dead_words(dead: int, num_experts: int) -> str:
    if dead == 0:
        return "no expert is dead"
    return f"{dead} of {num_experts} experts {'is' if dead == 1 else 'are'} dead"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
