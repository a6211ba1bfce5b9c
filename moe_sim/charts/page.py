"""History → Plotly figures: pure functions, the same for page, export, notebook and README.

Each trace says in `meta` which quantity it shows. That is how the live page, which gets the figures once, keeps them up
to date from the stream (pages/dashboard/js/bindings.js):

- `{"rows": column, "index": i, "smooth": n}`: y over steps, expert i of a per-expert column, averaged with horizon n
- `{"coarse": column, "index": i}`: the same in blocks of ten steps
- `{"heat": column}`: z, experts × steps
- `{"signal": name, "factor": n, "log": bool}`: one of `derived.SIGNALS` in the same blocks, times n; gaps at 0 if log
- `{"now": column}`: a share for each expert (each choice), as they are now, in percent; with `times` instead of percent
- `{"plain": column}`: a number for each expert, as they are now
- `{"limit": true}`: the capacity limit; `{"joint": true}`: group × expert; `{"together": true}`: expert × expert;
  `{"map": true}`: the held-out tokens
"""

from __future__ import annotations

import plotly.graph_objects as go

from moe_sim.charts.experts import capacity, feedback, load_and_importance, specialization
from moe_sim.charts.overview import imbalance, routing_map, task_and_balance_loss, utilization, utilization_over_time
from moe_sim.charts.palette import Theme
from moe_sim.charts.router import gradient_cosine, preference, router_gradients, router_logits, selection_bias
from moe_sim.charts.scene import Scene
from moe_sim.charts.system import (
    coactivation,
    devices,
    dropped_by_choice,
    inference_load,
    inference_loss,
    routing_std,
    step_time,
)

PAGE_FIGURES = {
    "utilization": utilization,
    "imbalance": imbalance,
    "task_and_balance_loss": task_and_balance_loss,
    "utilization_over_time": utilization_over_time,
    "load_and_importance": load_and_importance,
    "preference": preference,
    "selection_bias": selection_bias,
    "specialization": specialization,
    "router_gradients": router_gradients,
    "gradient_cosine": gradient_cosine,
    "router_logits": router_logits,
    "capacity": capacity,
    "dropped_by_choice": dropped_by_choice,
    "devices": devices,
    "step_time": step_time,
    "routing_std": routing_std,
    "coactivation": coactivation,
    "inference_load": inference_load,
    "inference_loss": inference_loss,
}
"""Figures by their names on the page; `page_figures` adds the feedback loop and, where tokens have places, the map."""


def page_figures(scene: Scene, theme: Theme) -> dict[str, go.Figure]:
    """Every figure of the live page by its name there."""
    figures = {name: draw(scene, theme) for name, draw in PAGE_FIGURES.items()}
    figures |= {f"feedback_{name}": figure for name, figure in feedback(scene, theme).items()}
    if scene.held_out.positions is not None:
        figures["routing_map"] = routing_map(scene, theme)
    return figures
