"""Play, pause, step, speed: commands that any background run understands."""

from __future__ import annotations

import math
from typing import Any

from moe_sim.live.background_run import RATES, BackgroundRun


def play(run: BackgroundRun, command: dict[str, Any]) -> None:
    """Executes a playback command and ignores any other."""
    match command:
        case {"name": "train"}:
            if command.get("reduced_motion"):
                run.slow_start = False
            run.train()
        case {"name": "pause"}:
            run.pause()
        case {"name": "step"}:
            run.single_step()
        case {"name": "extend"} if run.can_extend:
            run.extend()
        case {"name": "rate", "value": int() | float() as rate} if (rate or math.inf) in RATES:
            run.set_rate(float(rate) or math.inf)
