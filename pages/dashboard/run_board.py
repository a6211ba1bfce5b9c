"""The live page's board: one component that draws the whole dashboard."""

from __future__ import annotations

from typing import Any

from moe_sim.charts.blank import blank_figures
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.config.knobs import KNOBS
from moe_sim.config.thresholds import high_balance_loss
from moe_sim.history.columns import MOST_CHOICES
from moe_sim.live.live_run import LiveRun
from moe_sim.router.balancing import METHODS
from moe_sim.teaching.level import Level
from moe_sim.teaching.other_names import KNOB_NAMES, METRICS
from moe_sim.teaching.terms.catalogue import TERMS
from moe_sim.trainer.trainer import EVALUATION_TOKENS
from pages.dashboard.mounting import common_payload, mount
from pages.visitor import hosting
from pages.visitor.commands import obey
from pages.visitor.comparison import plan_of
from pages.visitor.replay import to_keep
from pages.visitor.session import Session
from pages.visitor.theme import current_theme
from pages.visitor.view import LOG_AXES

VIEWS: dict[str, tuple[str, list[str]]] = {
    "why": ("Why f and P", ["load_and_importance"]),
    "mechanism": ("Mechanism", ["preference", "selection_bias", "loss_share"]),
    "specialization": ("Specialization", ["specialization"]),
    "feedback": (
        "Feedback loop",
        ["feedback_share", "feedback_grad_norm", "feedback_weight_change", "feedback_weight_distance"],
    ),
    "router": ("Router", ["router_gradients", "gradient_cosine", "router_logits"]),
    "capacity": ("Capacity", ["capacity", "dropped_by_choice"]),
    "devices": ("Devices", ["devices", "step_time"]),
    "variance": ("Variance", ["routing_std"]),
    "coactivation": ("Co-activation", ["coactivation"]),
    "inference": ("Inference", ["inference_load", "inference_loss"]),
    "names": ("Other names", []),
    "text": ("Text", []),
    "prompt": ("Prompt", []),
}
"""The second row of views: the title and the charts of each of `TABS`."""
FIRST_SCREEN = (
    "routing_map", "utilization", "experts_by_layer", "utilization_over_time", "imbalance", "task_and_balance_loss",
)  # fmt: skip
"""The charts above the tabs."""


def show(session: Session) -> None:
    """Draw the dashboard of the session's run."""
    theme = current_theme()
    key = (session.run.id, theme, session.thresholds, session.view.level)
    data = session.remembered("payload", key, lambda: payload(session.run, theme, session.view.level))
    figures = session.remembered("figures", (*key, session.view.tab), lambda: blank_figures(
        figures_in_sight(session.view.tab), session.run.history.initial_config, session.run.task, theme,
        session.run.thresholds,
    ))  # fmt: skip
    kept = None if session.following or session.run.is_recorded else to_keep([plan_of(session.run)])
    data = data | {
        "figures": figures, "tab": session.view.tab, "log": session.view.log, "layer": session.view.layer,
        "turns": session.turns,
        "hide": sorted(session.view.hide),
        "watching": session.following is not None,
        "session": session.opened_with, "hurrying": session.run.catching_up, "kept": kept,
    }  # fmt: skip
    mount("dashboard", "live", data, lambda command: obey(session, command), session.next_message)


def figures_in_sight(tab: str) -> tuple[str, ...]:
    """The charts of the page while that tab is open. Those of the others are sent when they are opened."""
    return (*FIRST_SCREEN, *VIEWS[tab][1])


def payload(run: LiveRun, theme: Theme, level: Level = "beginner") -> dict[str, Any]:
    """The component's data about a run, apart from its stream: colours, texts."""
    common = common_payload(run, run.thresholds, theme)
    task, num_experts = run.task, run.config.num_experts
    return common | {
        "num_experts": num_experts,
        "num_layers": run.config.num_layers,
        "batch_tokens": run.config.batch_tokens,
        "groups": task.group_names,
        "group_noun": task.group_noun,
        "passages": task.held_out.passages,
        "prompt_url": f"{hosting.base_path()}/prompt/{run.id}" if hosting.routes_served() else None,
        "answers": run.config.task == "language",
        "mechanisms": {
            name: {
                "label": method.label,
                "explanation": method.explanation,
                "weighs_a_loss": "aux_loss_coef" in method.knobs,
                "looks_at_batch": method.looks_at_batch,
            }
            for name, method in METHODS.items()
        },
        "metrics": [(metric.name, metric.formula, metric.balanced, metric.elsewhere) for metric in METRICS],
        "knob_names": KNOB_NAMES,
        "terms": {name: term.short for term in TERMS if term.explained_to(level) for name in term.names},
        "level": level,
        "tabs": [{"name": name, "title": title, "charts": charts} for name, (title, charts) in VIEWS.items()],
        "log_axes": LOG_AXES,
        "alphas": KNOBS["aux_loss_coef"].stops,
        "evaluation_tokens": EVALUATION_TOKENS,
        "shift": ", ".join(KNOBS[name].label for name in task.shift_knobs),
        "context": common["context"]
        | {
            "plain": level == "beginner",
            "colours": PALETTES[theme].expert_colours(num_experts),
            "high_balance_losses": [high_balance_loss(num_experts, k + 1) for k in range(MOST_CHOICES)],
        },
    }
