"""The Compare page's board: runs in lock-step, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moe_sim.charts.blank import blank_comparison
from moe_sim.charts.palette import Theme
from moe_sim.config.run_plan import NAMES, difference_in_words, plan_in_words
from moe_sim.live.comparison import Comparison
from pages.dashboard.mounting import common_payload, mount
from pages.visitor.replay import to_keep
from pages.visitor.session import Session
from pages.visitor.theme import current_theme


def show(
    session: Session, run: Comparison, command: Callable[[dict[str, Any]], None], next_message: Callable[[], str]
) -> None:
    """Draw a comparison. `command` is called with every command of the board, `next_message` for the newest message."""
    theme = current_theme()
    key = (run.id, theme, session.thresholds)
    data = session.remembered("comparison", key, lambda: payload(run, theme))
    plans = run.plans
    words = {
        "difference": difference_in_words(plans),
        "runs": [{"name": name, "words": plan_in_words(plan, plans)} for name, plan in zip(NAMES, plans, strict=False)],
    }
    keeping = {"session": session.opened_with, "hurrying": run.catching_up, "kept": to_keep(plans)}
    mount("compare", "compare", data | words | keeping, command, next_message)


def payload(run: Comparison, theme: Theme) -> dict[str, Any]:
    """The component's data about a comparison, apart from its stream."""
    starts = tuple(member.history.initial_config for member in run.members)
    return common_payload(run, run.thresholds, theme) | {
        "figures": blank_comparison(starts, theme, run.thresholds),
        "num_experts": [member.config.num_experts for member in run.members],
        "num_layers": max(member.config.num_layers for member in run.members),
        "maps": [member.task.held_out.positions is not None for member in run.members],
    }
