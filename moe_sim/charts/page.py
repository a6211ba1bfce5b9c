"""History → Plotly figures: pure functions, used by the page, exports, notebooks and the README.

The live page gets the figures once, and then keeps them up to date from the stream (pages/dashboard/js/bindings.js).
For this, the `meta` of every trace has a `kind`, which says how the trace gets its data, and the keys of that kind:

| kind | other keys | shows |
| --- | --- | --- |
| rows | column | a column over steps |
| smoothed | column | its moving average |
| difference | column, baseline | the moving average minus that of the run `baseline` |
| ratio | column, infinity | a column over steps; ∞ is drawn at `infinity` |
| expert | column, expert | one expert's share over steps, in percent |
| heat | column | the shares of all experts over steps, in percent |
| coarse | column, expert | a quantity of one expert, in blocks of ten steps |
| signal | signal, factor, log | one of `series.SIGNALS` times `factor`, in the same blocks; gaps at 0 if log |
| now | column | a share for each expert, as it is now, in percent |
| choices | column | a share for each of the top-k choices, as it is now, in percent |
| devices | column | a share for each expert, as it is now, in multiples of 1/E |
| plain | column | a number for each expert, as it is now |
| limit | batch_tokens | the capacity limit, in percent of the token choices of a step |
| spells | expert, height | the times when an expert was dead, as pieces of a line at `height` |
| joint, together | | group × expert, expert × expert, in percent |
| map | colours | the held-out tokens in the colours of their experts |
| layers | numbers, dead | layer × expert, in percent; a mark for the dead, and numbers if there is room |
| layer_ratio | layer, infinity | as ratio, of one layer |

In a comparison, `run` is the index of the run that a trace follows. `blank_figure` and `utilization` set the `meta` of
layouts.
"""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from moe_sim.charts.experts import (
    capacity,
    feedback_grad_norm,
    feedback_share,
    feedback_weight_change,
    feedback_weight_distance,
    load_and_importance,
    specialization,
)
from moe_sim.charts.layers import experts_by_layer
from moe_sim.charts.overview import imbalance, routing_map, task_and_balance_loss, utilization, utilization_over_time
from moe_sim.charts.palette import Theme
from moe_sim.charts.router import (
    gradient_cosine,
    loss_share,
    preference,
    router_gradients,
    router_logits,
    selection_bias,
)
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

PAGE_FIGURES: dict[str, Callable[[Scene, Theme], go.Figure]] = {
    "utilization": utilization,
    "imbalance": imbalance,
    "task_and_balance_loss": task_and_balance_loss,
    "utilization_over_time": utilization_over_time,
    "load_and_importance": load_and_importance,
    "preference": preference,
    "selection_bias": selection_bias,
    "loss_share": loss_share,
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
    "feedback_share": feedback_share,
    "feedback_grad_norm": feedback_grad_norm,
    "feedback_weight_change": feedback_weight_change,
    "feedback_weight_distance": feedback_weight_distance,
    "routing_map": routing_map,
    "experts_by_layer": experts_by_layer,
}
"""The function that draws each figure, by the figure's name on the page. Tokens without positions have no map, and a
single layer has no `experts_by_layer`."""


def figure_names(scene: Scene) -> tuple[str, ...]:
    """The figures of a run's page."""
    missing = {"routing_map": scene.held_out.positions is None, "experts_by_layer": scene.run.num_layers == 1}
    return tuple(name for name in PAGE_FIGURES if not missing.get(name))


def page_figures(scene: Scene, theme: Theme) -> dict[str, go.Figure]:
    """Every figure of the live page by its name there."""
    return {name: PAGE_FIGURES[name](scene, theme) for name in figure_names(scene)}
