"""What state is the router in, by which evidence, and what to try next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from moe_sim.config.codec import format_value
from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.history import History
from moe_sim.history.series import recent_mean
from moe_sim.metrics import SMOOTHING_HORIZON, dead_experts
from moe_sim.router.balancing import METHODS

Level = Literal["neutral", "good", "warning", "bad"]

SETTLING_STEPS = SMOOTHING_HORIZON
"""Before this step, and this long after a knob was moved, the smoothed load still speaks of what was before."""
WAY_TO_COLLAPSE = 3 / 7
"""How far a load may go from 1/E, all alike, towards 1/K, all tokens on the same K experts. For E = 8 and K = 1 this is
one half; with two experts, where twice the uniform share is everything, it is 5/7."""
EXCESSIVE_ALPHA = 1.0
"""Ten times the upper end of the usual range, 0.01 to 0.1."""


@dataclass(frozen=True)
class Diagnosis:
    """The state line: a word, the evidence for it, and advice; `level` gives colour and icon."""

    state: str
    level: Level
    evidence: str
    advice: str = ""


def diagnose(
    history: History, config: RunConfig, thresholds: Thresholds | None = None, *, diverged: bool = False,
    failed: bool = False,
) -> Diagnosis:  # fmt: skip
    """Judge a run by its newest steps.

    Args:
        history: what the run has done so far.
        config: the configuration in force now.
        thresholds: where the lines are drawn; None: where they usually are.
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
    diagnosis = _judge(history, config, thresholds or Thresholds())
    if config.frozen:
        return replace(diagnosis, advice="Weights are frozen: only the data and the routing go on.")
    return diagnosis


def _judge(history: History, config: RunConfig, lines: Thresholds) -> Diagnosis:
    """The state of a run that is neither new nor broken."""
    load = history.last("smoothed_load")
    num_experts, busiest = len(load), int(load.argmax())
    token_share = float(load[busiest] * config.top_k)
    dead = int(dead_experts(load, lines.dead_share))
    outlier = load[busiest] > highest_healthy_load(num_experts, config.top_k, lines.healthy_high)
    uneven = bool(dead or outlier or load.min() * num_experts < lines.healthy_low)

    largest_logit = float(recent_mean(history, "router_logit_max"))
    if largest_logit > lines.large_logits and uneven:
        return Diagnosis(
            "Saturated", "bad",
            f"Router logits reach {largest_logit:.0f}: probabilities are 0 or 1, so hardly any gradient reaches the "
            f"router; {_dead_words(dead, num_experts)}.",
            "α cannot help here. Reset with a router z-loss of 1, which keeps logits small, or a lower learning rate.",
        )  # fmt: skip
    if (token_share > lines.collapse_share and outlier) or dead >= num_experts / 2:
        return _collapsed(history, config, busiest, token_share, dead, num_experts)
    left_out = float(recent_mean(history, "dropped_fraction"))
    if left_out > lines.many_dropped:
        return Diagnosis(
            "Dropping tokens", "warning",
            f"Capacity drops {_percent(left_out)} of the token choices; {_dead_words(dead, num_experts)}.",
            _stronger(config, "so that the load evens out before the cap has to"),
        )  # fmt: skip
    unserved = float(recent_mean(history, "unserved_fraction"))
    if config.balancing == "expert_choice" and unserved > lines.many_dropped:
        return Diagnosis(
            "Dropping tokens", "warning",
            f"Even by construction, but {_percent(unserved)} of the tokens are chosen by no expert.",
            "A larger top-k lets every expert take more tokens.",
        )  # fmt: skip
    undecided = float(recent_mean(history, "router_entropy"))
    if _weighs_a_loss(config) and config.aux_loss_coef >= EXCESSIVE_ALPHA and undecided > lines.undecided_entropy:
        return Diagnosis(
            "Over-balanced", "warning",
            f"Even, but undecided: router entropy is {undecided:.2f} of 1, specialization "
            f"{history.last('specialization'):.2f}.",
            "Lower α to between 0.01 and 0.1.",
        )  # fmt: skip
    shares = f"shares from {_percent(load.min())} to {_percent(load.max())}"
    change = _last_rescue(history)
    if uneven:
        evidence = f"{_dead_words(dead, num_experts).capitalize()}; {shares}."
        if change is not None and len(history) - change.step < 300:
            return Diagnosis("Recovering", "warning", evidence, _since(history, change))
        band = f"Close to the healthy band of {lines.healthy_low:g}/E to {lines.healthy_high:g}/E."
        return Diagnosis("Uneven", "warning", evidence, _stronger(config, "a little") if dead else band)
    preferred = recent_mean(history, "preferred_load")
    favourite = int(preferred.argmax())
    if preferred[favourite] * config.top_k > lines.collapse_share and num_experts > 2 * config.top_k:
        return Diagnosis(
            "Balanced", "good", f"Every expert works: {shares}.",
            f"But by selection only: the router itself would send {_percent(preferred[favourite] * config.top_k)} of "
            f"the tokens to expert {favourite + 1}.",
        )  # fmt: skip
    return Diagnosis("Balanced", "good", f"Every expert works: {shares}.", _since(history, change) if change else "")


def highest_healthy_load(num_experts: int, top_k: int, healthy_high: float = 2.0) -> float:
    """The load above which an expert has too much, for any E and K: never reached by balanced routing."""
    uniform = 1 / num_experts
    return min(healthy_high * uniform, uniform + WAY_TO_COLLAPSE * (1 / top_k - uniform)) + 1e-9


def _outlook(config: RunConfig) -> str:
    unbalanced = config.balancing == "none" or (config.aux_loss_coef == 0 and _weighs_a_loss(config))
    if config.task == "topics" and unbalanced and config.capacity_factor is None:
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
        words = _words(change)
        return Diagnosis(
            "Collapsed", "bad", evidence, f"{words[0].upper()}{words[1:]} just now: give it some 50 steps."
        )
    return Diagnosis("Collapsed", "bad", evidence, _stronger(config, ""))


def _weighs_a_loss(config: RunConfig) -> bool:
    return "aux_loss_coef" in METHODS[config.balancing].knobs


def _stronger(config: RunConfig, purpose: str) -> str:
    """Advice to balance more, in the words of the mechanism."""
    if config.balancing == "bias" and config.bias_rate >= 1:
        return "Choose another mechanism: this one is at its largest rate."
    if config.balancing == "bias":
        usual = "; on softmax probabilities 0.01 is usual" if config.bias_rate < 0.01 else ""
        return f"Raise the bias rate, now {format_value(config.bias_rate)}{usual}."
    if config.balancing == "none" or not _weighs_a_loss(config):
        return "Choose the load-balancing loss and α between 0.03 and 0.1."
    if config.aux_loss_coef < 0.01:
        return f"Try α between 0.03 and 0.1{' ' + purpose if len(purpose) > 10 else ''}."
    if config.aux_loss_coef >= EXCESSIVE_ALPHA:
        return ""
    return f"Raise α two or three times, to about {2.5 * config.aux_loss_coef:.2g}."


def _last_rescue(history: History) -> Event | None:
    """The newest raise of α or choice of a mechanism."""
    values = history.initial_config.model_dump()
    rescue = None
    for event in history.events:
        alpha, mechanism = (event.changes.get(name, values[name]) for name in ("aux_loss_coef", "balancing"))
        if alpha > values["aux_loss_coef"] or (mechanism != values["balancing"] and mechanism != "none"):
            rescue = event
        values |= event.changes
    return rescue


def _words(change: Event) -> str:
    return "the mechanism was changed" if "balancing" in change.changes else "α was raised"


def _since(history: History, change: Event) -> str:
    """What the task loss did since a knob was moved, mean over 20 steps against mean over 20 steps."""
    task_loss = history.column("task_loss")
    before = task_loss[max(0, change.step - SMOOTHING_HORIZON) : change.step]
    if not len(before):
        return ""
    now = np.mean(task_loss[-SMOOTHING_HORIZON:])
    return f"Task loss {before.mean():.2f} → {now:.2f} since {_words(change)} at step {change.step}."


def _dead_words(dead: int, num_experts: int) -> str:
    if dead == 0:
        return "no expert is dead"
    return f"{dead} of {num_experts} experts {'is' if dead == 1 else 'are'} dead"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
