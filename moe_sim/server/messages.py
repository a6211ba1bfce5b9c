"""History → messages for the live page, as JSON text.

Every message covers the steps between two numbers: the first one (from step 0) is a snapshot, every later one a delta.
A client that missed something asks for it with `from`. Numbers are rounded to what a screen can show; the exact ones
are in `History.to_frame()`.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from typing import Any

import numpy as np

from moe_sim import metrics
from moe_sim.charts.figure import capacity
from moe_sim.config.run_config import RunConfig
from moe_sim.diagnosis.deaths import deaths, in_words
from moe_sim.diagnosis.verdict import Diagnosis, diagnose
from moe_sim.history.columns import COARSE
from moe_sim.history.history import History
from moe_sim.history.layer import Layer
from moe_sim.history.markers import SAME_CHANGE, markers
from moe_sim.history.probe import LayerProbe, Probe
from moe_sim.history.series import (
    EVALUATED,
    SIGNALS,
    coarse_mean,
    evaluations,
    layer_imbalances,
    recent_mean,
    recent_terms,
    signals,
    smoothed_imbalance,
)
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.comparison import Comparison
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun
from moe_sim.teaching.other_names import METRICS

SHARE_SCALE = 1_000
"""The tiles' shares are sent as integers, in thousandths."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""The n-th letter stands for expert n on the routing map, for 8a + b for two tokens' experts a and b where there are at
most 8 of them, and for n/63 in matrices of shares."""
LIVE = ("top_k", "capacity_factor", "balancing", "aux_loss_coef", "frozen")
"""Live knobs that the page needs for drawing."""
MOST_LECTURES = 3
"""Lectures offered to a visitor who waits in the queue."""
ALL_PARTS = frozenset({"picture", "views"})
"""Optional parts of a message."""


def encode(
    run: LiveRun, start: int, parts: frozenset[str] = ALL_PARTS, lectures: Lectures | None = None,
    layer: int | None = None,
) -> tuple[int, str]:  # fmt: skip
    """Encode what happened in `run` after step `start`.

    Args:
        run: the run.
        start: the last step that the client knows.
        parts: the optional parts to include, of `ALL_PARTS`.
        lectures: the running lectures; None to offer none.
        layer: the layer that the client looks at, counted from 0, or None for all; what does not exist counts as None.

    In the message, layers are counted from 1, and 0 is all of them.

    Returns:
        The last step in the message, and the message as JSON text. `rows` and `coarse` hold columns to append
        (per-expert ones flattened row by row, the smoothed load in pairs of letters); everything else replaces the
        previous value.
    """
    stop, message = _message(run, start, parts, lectures, layer)
    return stop, _text(message)


def encode_comparison(
    comparison: Comparison, start: int, lectures: Lectures | None = None, layer: int | None = None
) -> tuple[int, str]:
    """Encode what happened in all runs of a comparison after step `start`.

    Returns:
        The last step that all running members have done, and the message as JSON text. `members` holds a message like
        that of `encode` for each run, with its timeline and, of the optional parts, its picture.
    """
    members, stop = comparison.members, comparison.steps_done  # read first: the members have done at least these steps
    start = start if 0 <= start <= stop else 0
    encoded = [
        _message(member, min(start, member.steps_done), frozenset({"picture"}), None, layer)[1] for member in members
    ]
    message = _playback(comparison, lectures) | {"from": start, "to": stop, "members": encoded}
    message["layer"] = max(part.get("layer", 0) for part in encoded)
    for part, member in zip(encoded, members, strict=True):
        part["timeline"] = _timeline(member, layer)
    return stop, _text(message)


def _timeline(run: LiveRun, layer: int | None) -> dict[str, Any]:
    """When experts were dead, in one layer: of all, in the one whose busiest expert has the most tokens."""
    whole = run.history
    shown = shown_layer(whole, layer)
    index = whole.most_uneven_layer() if shown is None else shown
    record = deaths(whole.layer(index), run.thresholds.dead_share)
    words = in_words(whole.layer(index), record)
    return {
        "words": f"Layer {index + 1}: {words}" if words and whole.num_layers > 1 else words,
        "spells": record.spells,
    }


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def _playback(run: BackgroundRun, lectures: Lectures | None) -> dict[str, Any]:
    playback = {
        "state": run.state,
        "budget": run.budget,
        "extendable": run.can_extend,
        "rate": _brief(run.rate) if math.isfinite(run.rate) else 0,
        "speed": _brief(round(run.measured_rate, 1)),
    }
    recomputed = run.recomputed if run.wants_step else None
    return playback | waiting(run, lectures) | ({} if recomputed is None else {"recomputed": recomputed})


def waiting(run: BackgroundRun, lectures: Lectures | None) -> dict[str, Any]:
    """For a run that waits in the queue, its position and lectures to watch meanwhile; empty otherwise."""
    if not run.queue_position:
        return {}
    return {
        "queue_position": run.queue_position,
        "lectures": lectures.going(MOST_LECTURES) if lectures is not None else (),
    }


def shown_layer(history: History, layer: int | None) -> int | None:
    """The layer, if the run has several and it is one of them; else None for all."""
    return layer if layer is not None and 0 <= layer < history.num_layers > 1 else None


def _message(
    run: LiveRun, start: int, parts: frozenset[str], lectures: Lectures | None, layer: int | None
) -> tuple[int, dict[str, Any]]:
    whole, config = run.history, run.config
    stop = len(whole)
    start = start if 0 <= start <= stop else 0
    verdict = diagnose(whole, config, run.thresholds, diverged=run.state == "diverged", failed=run.state == "failed")
    layer = shown_layer(whole, layer)
    history, probed = whole.layer(layer), whole.most_uneven_layer() if layer is None else layer
    probe = run.probe.layer(probed)
    message = _playback(run, lectures) | {
        "from": start,
        "to": stop,
        "live": {name: _brief(getattr(config, name)) for name in LIVE} | {"capacity": capacity(config)},
        "diagnosis": _diagnosis(verdict, changeable=not run.is_recorded),
        "tiles": _tiles(history, run.thresholds.dead_share, stop),
        "rows": {
            "smoothed_load": _letter_pairs(history.column("smoothed_load", start, stop)),
            "task_loss": _numbers(history.column("task_loss", start, stop)),
            "balance_loss": _numbers(history.column("balance_loss", start, stop)),
            "imbalance": _numbers(smoothed_imbalance(history, start, stop), 3),
        },
        "coarse": _coarse(history, start, stop),
    }  # fmt: skip
    if whole.num_layers > 1:
        message["rows"]["layer_imbalance"] = _numbers(layer_imbalances(whole, start, stop).ravel(), 3)
        message["layers"] = _layers(whole, run.probe, start, stop) | {"probed": probed + 1}
        message["layer"] = 0 if layer is None else layer + 1
    if planned := sum(event.step < stop for event in run.plan):
        message["planned_changes"] = planned
    if not stop:
        message["start_load"] = _letter_pairs(probe.first_choices())
    newest = history.events[-1].step if history.events else -1
    if start == 0 or newest >= start - SAME_CHANGE:  # otherwise the markers have not changed
        message["events"] = [vars(marker) for marker in markers(history)]
    if "picture" in parts:
        message |= _picture(probe, config.num_experts)
    if "views" in parts:
        message |= _views(history, config, probe, stop)
    return stop, message


def _layers(history: History, probe: Probe, start: int, stop: int) -> dict[str, str]:
    """For the picture of all layers: the smoothed load of their experts after each complete block of ten steps, to
    append, and the newest; at step 0, the first choices of the held-out tokens."""
    if stop:
        newest = history.last("smoothed_load")
    else:
        newest = np.array([probe.layer(index).first_choices() for index in range(history.num_layers)])
    blocks = history.column("smoothed_load", start // COARSE * COARSE, stop // COARSE * COARSE)[COARSE - 1 :: COARSE]
    return {"blocks": _letter_pairs(blocks), "load": _letter_pairs(newest)}


def _diagnosis(verdict: Diagnosis, *, changeable: bool) -> dict[str, Any]:
    """The verdict in words, whether a button can follow the advice, and whether one can show what a rescue changed."""
    words: dict[str, Any] = {name: getattr(verdict, name) for name in ("state", "level", "evidence", "advice")}
    if verdict.layer is not None:
        words["layer"] = verdict.layer + 1
    offers = {"rescue": bool(verdict.remedy), "rescued": verdict.rescued_at is not None}
    return words | {name: True for name, offered in offers.items() if offered and changeable}


def _tiles(history: Layer, dead_share: float, stop: int) -> dict[str, int]:
    """The number of dead experts, of all layers that of the worst, and in thousandths the token choices dropped and the
    tokens served by no expert."""
    newest = history.layers_of("smoothed_load", stop - 1, stop) if stop else None
    return {
        "dead": 0 if newest is None else int(metrics.dead_experts(newest, dead_share).max()),
        "dropped": _shares(recent_mean(history, "dropped_fraction"))[0],
        "unserved": _shares(recent_mean(history, "unserved_fraction"))[0],
    }


def _coarse(history: Layer, start: int, stop: int) -> dict[str, list[float | None]]:
    """Per-expert columns and, in one column, all `SIGNALS`; empty if no block of ten steps was completed."""
    if start // COARSE == stop // COARSE:
        return {}
    table = signals(history, start, stop)
    digits = {"grad_norm": 2, "weight_change": 2, "weight_distance": 3}
    return {name: _numbers(coarse_mean(history, name, start, stop).ravel(), digits[name]) for name in digits} | {
        "signals": [
            _number(float(table[name][block]), 4 if name in EVALUATED else 3)
            for block in range(len(table["z_loss"]))
            for name in SIGNALS
        ]
    }


def _picture(probe: LayerProbe, num_experts: int) -> dict[str, Any]:
    """The expert of each token on the routing map, and which tokens are dropped."""
    expert, dropped = probe.expert, probe.dropped
    if num_experts <= 8:
        expert = np.append(expert, np.zeros(len(expert) % 2, dtype=expert.dtype))
        expert = 8 * expert[::2] + expert[1::2]
    return {
        "map": _letters(expert),
        "dropped": b64encode(np.packbits(dropped).tobytes()).decode() if dropped.any() else "",
    }


def _views(history: Layer, config: RunConfig, probe: LayerProbe, stop: int) -> dict[str, Any]:
    """The present values in the second row of views: shares in pairs of letters, means of the last 20 steps."""
    evaluated = evaluations(history, "eval_load")
    load = recent_mean(history, "load")
    columns = ("load", "first_load", "importance", "processed", "preferred_load", "dropped_by_choice")
    shares = {name: recent_mean(history, name) for name in columns}
    shares["dropped_by_choice"] = shares["dropped_by_choice"][: config.top_k]
    shares["eval_load"] = evaluated[-1] if len(evaluated) else np.zeros(len(load))
    now = {name: _letter_pairs(values) for name, values in shares.items()} | {
        "selection_bias": _numbers(history.last("selection_bias"), 3) if config.balancing == "bias" and stop else [],
        "specialization": _number(float(history.last("specialization")), 3) if stop else None,
        "metrics": [_number(metric.compute(load), 3) for metric in METRICS] if stop else [None] * len(METRICS),
    }
    terms, first_terms = recent_terms(history, "load"), recent_terms(history, "first_load")
    now["terms"] = _numbers(
        np.array([terms.sum(), first_terms.sum(), terms[load.argmax()]]), 5
    )  # multiplied by 2·E, shown with two decimals
    together = probe.coactivation() if config.top_k > 1 or config.balancing == "expert_choice" else None
    return {
        "now": now,
        "joint": _letters(np.rint(63 * probe.group_shares())),
        "together": "" if together is None else _letters(np.rint(63 * together)),
    }


def _shares(values: np.ndarray) -> list[int]:
    return np.rint(np.asarray(values).ravel() * SHARE_SCALE).astype(int).tolist()


def _numbers(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Round to significant digits; None for ∞ and NaN, which JSON does not have."""
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int) -> float | None:
    if not math.isfinite(value):
        return None
    number: float = _brief(float(f"{value:.{digits}g}"))
    return number


def _brief(value: Any) -> Any:
    """3 instead of 3.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _letter_pairs(shares: np.ndarray) -> str:
    """Two letters per share, in units of 1/4095: the bulk of a message, at half the size of decimals."""
    units = np.rint(shares.ravel() * 4095).astype(int).tolist()
    return "".join(LETTERS[unit >> 6] + LETTERS[unit & 63] for unit in units)


def _letters(numbers: np.ndarray) -> str:
    return "".join(LETTERS[int(number)] for number in numbers.ravel())
