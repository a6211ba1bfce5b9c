"""History → messages for the live page, as JSON text and as server-sent events.

Every message says what happened from one step to another, so the first one (from step 0) is a snapshot and any later
one a delta, and a client that was away asks for what it missed with `from`. Numbers are rounded to what a screen can
show; the exact ones are in `History.to_frame()`.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any

import numpy as np
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moe_sim.derived import coarse_mean, markers, recent_mean, smoothed_imbalance
from moe_sim.diagnosis import diagnose
from moe_sim.live import LiveRun

TICK = 0.05
"""Seconds between two looks at a run."""
INTERVAL = 0.2
"""Seconds between two messages while steps go on; a moved knob or a changed state is sent at the next tick."""
HEARTBEAT = 2
"""Seconds between heartbeats, which tell a quiet stream from a dead one."""
SHARE_SCALE = 1_000
"""Shares travel as integers, in thousandths."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""The n-th letter stands for expert n on the routing map, for n/63 in the group × expert matrix."""


def encode(run: LiveRun, start: int) -> tuple[int, str]:
    """What happened in `run` after step `start`.

    Returns:
        The last step in the message, and the message as JSON text: `rows` and `coarse` hold columns to append
        (per-expert ones flattened row by row, the smoothed load in pairs of letters), everything else replaces what
        was known before.
    """
    history, config, probe = run.history, run.config, run.probe
    stop = len(history)
    start = start if 0 <= start <= stop else 0
    ratio = smoothed_imbalance(history, start, stop)
    message = {
        "from": start,
        "to": stop,
        "state": run.state,
        "budget": run.budget,
        "rate": run.rate if math.isfinite(run.rate) else 0,
        "speed": round(run.measured_rate, 1),
        "live": {
            "top_k": config.top_k,
            "capacity_factor": config.capacity_factor,
        },
        "diagnosis": vars(diagnose(history, config, diverged=run.state == "diverged", failed=run.state == "failed")),
        "events": [vars(marker) for marker in markers(history)],
        "planned_moves": sum(event.step < stop for event in run.plan),
        "rows": {
            "smoothed_load": _letter_pairs(history.column("smoothed_load", start, stop)),
            "task_loss": _numbers(history.column("task_loss", start, stop)),
            "balance_loss": _numbers(history.column("balance_loss", start, stop)),
            "imbalance": _numbers(ratio, 3),
        },
        "coarse": {
            name: _numbers(coarse_mean(history, name, start, stop).ravel(), 3)
            for name in ("grad_norm", "weight_change")
        },
        "now": {
            name: _shares(recent_mean(history, name)) for name in ("load", "importance", "processed")
        } | {
            "dropped_fraction": _shares(recent_mean(history, "dropped_fraction"))[0],
            "dead_experts": int(history.last("dead_experts")) if stop else 0,
            "specialization": _numbers(history.last("specialization")[None])[0] if stop else None,
        },
        "map": _letters(probe.expert),
        "dropped": b64encode(np.packbits(probe.dropped).tobytes()).decode() if probe.dropped.any() else "",
        "joint": _letters(np.rint(63 * probe.group_shares())),
    }  # fmt: skip
    return stop, json.dumps(message, separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=64)
def _shared_encoding(run: LiveRun, start: int, version: tuple[Any, ...]) -> tuple[int, str]:
    """`encode`, once for all viewers who ask for the same thing."""
    return encode(run, start)


def _version(run: LiveRun) -> tuple[Any, ...]:
    """Changes whenever a message would say something new that is worth saying at once."""
    return run.state, run.budget, run.rate, len(run.history.events)


async def messages(run: LiveRun, start: int) -> AsyncIterator[ServerSentEvent]:
    """Watch `run` from step `start` on, for as long as the client listens and the run exists. Holds a lease."""
    with run.lease():
        version: tuple[Any, ...] | None = None
        probe, sent_at = None, 0.0
        while not run.forgotten:
            now = time.monotonic()
            fresh = len(run.history) > start or run.probe is not probe
            if version != _version(run) or (fresh and now - sent_at >= INTERVAL * 0.9):
                version, probe, sent_at = _version(run), run.probe, now
                start, text = _shared_encoding(run, start, (*version, len(run.history), probe.step))
                yield ServerSentEvent(id=str(start), data=text)
            await asyncio.sleep(TICK)


def live_endpoint(find: Callable[[str], LiveRun | None]) -> Callable[[Request], Any]:
    """The handler of `GET /live/{run_id}`: `find` looks runs up. `Last-Event-ID` or `?from=` resumes."""

    async def endpoint(request: Request) -> Response:
        run = find(request.path_params["run_id"])
        if run is None:
            return JSONResponse({"error": "There is no such run (any more)."}, status_code=404)
        last = request.headers.get("last-event-id") or request.query_params.get("from", "0")
        start = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
        return EventSourceResponse(
            messages(run, start),
            ping=HEARTBEAT,
            ping_message_factory=lambda: ServerSentEvent(event="heartbeat", data="{}"),
            headers={"X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"},
        )

    return endpoint


def _shares(values: np.ndarray) -> list[int]:
    return np.rint(np.asarray(values).ravel() * SHARE_SCALE).astype(int).tolist()


def _numbers(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Rounded to significant digits; None for ∞ and NaN, which JSON does not have."""
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int) -> float | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _letter_pairs(shares: np.ndarray) -> str:
    """Two letters a share, in units of 1/4095: the bulk of a message, at half the size of decimals."""
    units = np.rint(shares.ravel() * 4095).astype(int).tolist()
    return "".join(LETTERS[unit >> 6] + LETTERS[unit & 63] for unit in units)


def _letters(numbers: np.ndarray) -> str:
    return "".join(LETTERS[int(number)] for number in numbers.ravel())
