"""The state of the router, the evidence for it, and what to try next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from moe_sim.config.codec import format_value
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.config.words import percent
from moe_sim.diagnosis.load import LoadReading
from moe_sim.diagnosis.remedies import EXCESSIVE_ALPHA, Remedy, balances, has_loss, more_balancing
from moe_sim.history.history import History
from moe_sim.history.layer import Layer
from moe_sim.history.markers import Change, changes_of
from moe_sim.history.series import recent_mean
from moe_sim.metrics import SMOOTHING_HORIZON, dead_experts

Level = Literal["neutral", "good", "recovering", "warning", "bad"]
LEVELS = get_args(Level)
"""From fine to worst."""

SETTLING_STEPS = SMOOTHING_HORIZON
"""Before this step, and this long after a change of a knob, the smoothed load still reflects earlier steps."""
NO_GRADIENT = 1e-5
"""The task gradient is what is left of the whole one; a smaller one is rounding."""
TREND_STEPS = 40
"""A run recovers if its load was less even this many steps ago."""


@dataclass(frozen=True)
class Diagnosis:
    """The state line: a state, the evidence for it, and advice; `level` gives color and icon."""

    state: str
    level: Level
    evidence: str
    advice: str = ""
    remedy: dict[str, Any] = field(default_factory=dict)
    """Changes of live knobs that follow the advice; empty if it names none."""
    rescued_at: int | None = None
    """The step after which a change of a knob brought all dead experts back, if one did and all are in use now."""
    layer: int | None = None
    """Of several layers, the one that the verdict is about: the worst. Counted from 0."""


def diagnose(
    history: History, config: RunConfig, thresholds: Thresholds | None = None, *, diverged: bool = False,
    failed: bool = False,
) -> Diagnosis:  # fmt: skip
    """Judges a run by its newest steps.

    Args:
        history: the run so far.
        config: the configuration in force now.
        thresholds: the thresholds of the verdicts; None for the defaults.
        diverged: the trainer found a number that is not finite.
        failed: an unexpected error ended the run.
    """
    if failed:
        return Diagnosis(
            "Stopped", "bad",
            f"An unexpected error ended this run after step {len(history)}. Everything shown is from that step.",
            "Press Reset. With many experts and tokens, the machine may be out of memory.",
        )  # fmt: skip
    if diverged:
        return _diverged(history, config)
    if not len(history):
        return Diagnosis("Ready", "neutral", _outlook(config), "Press Train and watch who gets the tokens.")
    task_loss = history.column("task_loss")
    if recent_mean(history, "task_loss") > 3 * task_loss[0]:
        return Diagnosis(
            "Exploding", "bad", f"Task loss rose from {task_loss[0]:.2f} to {task_loss[-1]:.3g}.",
            f"Reset with a learning rate far below {format_value(config.learning_rate)}; 0.003 is the default.",
        )  # fmt: skip
    if len(history) < SETTLING_STEPS:
        advice = f"The verdict begins at step {SETTLING_STEPS}."
        return Diagnosis("Starting", "neutral", "The router has only just started.", advice)
    diagnosis = _judge_layers(history, config, thresholds or Thresholds())
    if config.frozen:
        return replace(diagnosis, advice="Weights are frozen. Data and routing continue.", remedy={})
    return diagnosis


def _judge_layers(history: History, config: RunConfig, thresholds: Thresholds) -> Diagnosis:
    """The verdict about the worst layer, which it names if there are others."""
    verdicts = [_judge(history.layer(index), config, thresholds) for index in range(history.num_layers)]
    if len(verdicts) == 1:
        return verdicts[0]
    busiest = history.last("smoothed_load").max(1)

    def badness(index: int) -> tuple[int, int, float]:
        verdict = verdicts[index]
        return LEVELS.index(verdict.level), verdict.rescued_at or 0, busiest[index]

    worst = max(range(len(verdicts)), key=badness)
    verdict = verdicts[worst]
    alike = [f"{index + 1}" for index, one in enumerate(verdicts) if one.state == verdict.state and index != worst]
    evidence = f"Layer {worst + 1}: {verdict.evidence[0].lower()}{verdict.evidence[1:]}"
    if alike and verdict.level in ("warning", "bad"):
        evidence += f" {verdict.state} too: layer{'s' * (len(alike) > 1)} {' and '.join(alike)}."
    return replace(verdict, evidence=evidence, layer=worst)


def _judge(history: Layer, config: RunConfig, thresholds: Thresholds) -> Diagnosis:
    """The state of a run that has settled and has not broken."""
    load = LoadReading.of(history.last("smoothed_load"), config.top_k, thresholds)
    largest_logit = float(recent_mean(history, "router_logit_max"))
    if largest_logit > thresholds.large_logits and load.is_uneven:
        return Diagnosis(
            "Saturated", "bad",
            f"Router logits reach {largest_logit:.0f}: probabilities are 0 or 1, so hardly any gradient reaches the "
            f"router; {load.dead_in_words()}.",
            "α cannot help here. Reset with a router z-loss of 1, which keeps logits small, or a lower learning rate.",
        )  # fmt: skip
    if load.is_collapsed(thresholds):
        return _collapsed(history, config, load)
    dropped = float(recent_mean(history, "dropped_fraction"))
    if dropped > thresholds.many_dropped:
        remedy = more_balancing(config, " to even out the load without drops")
        if config.balancing == "expert_choice":
            advice = "Raise the capacity factor to 1: then every expert keeps all tokens that it chooses."
            remedy = Remedy(advice, {"capacity_factor": 1.0})
        evidence = f"Capacity drops {percent(dropped)} of the token choices; {load.dead_in_words()}."
        return Diagnosis("Dropping tokens", "warning", evidence, *remedy)
    unserved = float(recent_mean(history, "unserved_fraction"))
    if config.balancing == "expert_choice" and unserved > thresholds.many_dropped:
        return Diagnosis(
            "Dropping tokens", "warning",
            f"Even by construction, but no expert computes {percent(unserved)} of the tokens.",
            "A larger top-k lets every expert take more tokens.",
        )  # fmt: skip
    if _learns_nothing_from_the_task(history, config):
        return Diagnosis(
            "No task gradient", "warning",
            f"{load.shares[0].upper()}{load.shares[1:]}; but the router gets no gradient from the task.",
            "It cannot learn which expert suits a token. Look at the combine weights: is one of them a constant?",
        )  # fmt: skip
    entropy = float(recent_mean(history, "router_entropy"))
    if has_loss(config) and config.aux_loss_coef >= EXCESSIVE_ALPHA and entropy > thresholds.undecided_entropy:
        return Diagnosis(
            "Over-balanced", "warning",
            f"Even, but the router no longer chooses: router entropy {entropy:.2f} out of 1, specialization "
            f"{history.last('specialization'):.2f}.",
            "Lower α to between 0.01 and 0.1.",
        )  # fmt: skip
    change = _last_rescue(history)
    task_loss = _task_loss_since(history, change) if change else ""
    if load.dead or load.outlier or load.idle > load.num_experts / 4:
        return _uneven(history, config, thresholds, load, task_loss)
    revived_after = _steps_to_revive(history, thresholds, change)
    rescued_at = change.step if change and revived_after else None
    in_use = f"All {load.num_experts} experts back after {revived_after}" if revived_after else "Every expert is in use"
    evidence = f"{in_use}: {load.shares}."
    if load.idle:
        advice = task_loss or load.below_the_band(thresholds)
        return Diagnosis("Nearly balanced", "good", evidence, advice, rescued_at=rescued_at)
    preferred = recent_mean(history, "preferred_load")
    favourite = int(preferred.argmax())
    if preferred[favourite] * config.top_k > thresholds.collapse_share and load.num_experts > 2 * config.top_k:
        return Diagnosis(
            "Balanced", "good", evidence,
            f"But by selection only: the router itself would send {percent(preferred[favourite] * config.top_k)} of "
            f"the tokens to expert {favourite + 1}.", rescued_at=rescued_at,
        )  # fmt: skip
    return Diagnosis("Balanced", "good", evidence, task_loss, rescued_at=rescued_at)


def _uneven(
    history: Layer, config: RunConfig, thresholds: Thresholds, load: LoadReading, task_loss: str
) -> Diagnosis:  # fmt: skip
    evidence = f"{load.dead_in_words().capitalize()}; {load.shares}."
    if balances(config) and _is_recovering(history, thresholds):
        return Diagnosis("Recovering", "recovering", evidence, task_loss)
    if load.dead:
        return Diagnosis("Uneven", "warning", evidence, *more_balancing(config))
    if load.outlier:
        advice = f"Expert {load.busiest + 1} is above the healthy band, which ends at {thresholds.healthy_high:g}/E."
    else:
        advice = load.below_the_band(thresholds)
    return Diagnosis("Uneven", "warning", evidence, advice)


def _outlook(config: RunConfig) -> str:
    if config.task == "topics" and not balances(config) and config.capacity_factor is None:
        return "Nothing balances this router."
    return "The router has not seen a token yet."


def _diverged(history: History, config: RunConfig) -> Diagnosis:
    return Diagnosis(
        "Diverged", "bad",
        f"A loss or gradient was not finite after step {len(history)}; everything shown is the last healthy state.",
        f"Reset and lower the learning rate (now {format_value(config.learning_rate)}) or the weight of a loss.",
    )  # fmt: skip


def _collapsed(history: Layer, config: RunConfig, load: LoadReading) -> Diagnosis:
    evidence = f"Expert {load.busiest + 1} takes {percent(load.token_share)} of the tokens; {load.dead_in_words()}."
    change = _last_rescue(history)
    if change is not None and len(history) - change.last_step < 3 * SETTLING_STEPS:
        changed = "changed the mechanism" if change.knob == "balancing" else "raised α"
        return Diagnosis("Collapsed", "bad", evidence, f"You just {changed}. Give it about 50 steps.")
    if _pulls_in_vain(history, config):
        advice = (
            f"α is {format_value(config.aux_loss_coef)}, but the loss that it weighs has no gradient on the router."
        )
        return Diagnosis("Collapsed", "bad", evidence, advice)
    return Diagnosis("Collapsed", "bad", evidence, *more_balancing(config))


def _learns_nothing_from_the_task(history: Layer, config: RunConfig) -> bool:
    """Whether a router that should learn got no gradient from the task in the last steps."""
    fixed = config.frozen or config.frozen_router or config.balancing == "hash"
    return not fixed and _largest_recent(history, "router_task_gradient") < NO_GRADIENT


def _pulls_in_vain(history: Layer, config: RunConfig) -> bool:
    """Whether α weighs a loss that had no gradient on the router in the last steps."""
    weighs = config.aux_loss_coef > 0 and has_loss(config) and not config.frozen
    return weighs and not _largest_recent(history, "router_balance_gradient")


def _largest_recent(history: Layer, name: str) -> float:
    return float(history.column(name, max(0, len(history) - SETTLING_STEPS)).max())


def _is_recovering(history: Layer, thresholds: Thresholds) -> bool:
    """Whether the load has become clearly more even within `TREND_STEPS`: fewer dead experts, or as many and a busiest
    expert with a tenth less."""
    now, before = history.column("smoothed_load")[[-1, -min(len(history), TREND_STEPS)]]
    dead_now, dead_before = (int(dead_experts(load, thresholds.dead_share)) for load in (now, before))
    return dead_now < dead_before or (dead_now == dead_before and now.max() < 0.9 * before.max())


def _last_rescue(history: Layer) -> Change | None:
    """The newest change that raised α or chose another mechanism."""
    rescues = (
        one for one in changes_of(history)
        if (one.knob == "aux_loss_coef" and one.after > one.before) or (one.knob == "balancing" and one.after != "none")
    )  # fmt: skip
    return max(rescues, key=lambda one: one.last_step, default=None)


def _steps_to_revive(history: Layer, thresholds: Thresholds, rescue: Change | None) -> str:
    """How many steps after a rescue no expert was dead any more; empty if none was dead at its first step."""
    if rescue is None:
        return ""
    dead = dead_experts(history.column("smoothed_load", rescue.step), thresholds.dead_share)
    if not dead[:1].any():  # nor if there has been no step since
        return ""
    steps = int((dead == 0).argmax()) + 1
    return f"{steps:,} step{'s' * (steps != 1)}"


def _task_loss_since(history: Layer, change: Change) -> str:
    """The task loss before a change and now, each the mean of 20 steps."""
    if not change.step:
        return ""
    before, now = recent_mean(history, "task_loss", change.step), recent_mean(history, "task_loss")
    changed = "the mechanism was changed" if change.knob == "balancing" else "α was raised"
    return f"Task loss {before:.2f} → {now:.2f} since {changed} at step {change.step:,}."
