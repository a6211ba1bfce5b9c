"""Runs side by side on shared axes. The `meta` of every trace says which run it follows: `{"run": index}`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go

from moe_sim.charts.figure import blank_figure, steps_of
from moe_sim.charts.overview import (
    imbalance,
    infinity_level,
    routing_map,
    smooth,
    utilization,
    utilization_over_time,
)
from moe_sim.charts.palette import PALETTES, Theme
from moe_sim.charts.scene import Scene
from moe_sim.config.run_plan import NAMES
from moe_sim.diagnosis.deaths import DeathRecord, deaths
from moe_sim.history.series import smoothed_imbalance
from moe_sim.metrics import SMOOTHING_HORIZON

DASHES = ("solid", "dash", "dot", "dashdot")
LANE_GAP = 1.0
"""The gap between two runs on the timeline, in heights of a lane, which holds all experts of a run."""


def comparison_figures(scenes: Sequence[Scene], theme: Theme = "light") -> dict[str, go.Figure]:
    """Every figure of the Compare page by its name there: the shared ones, and two or three for each run. Only tokens
    with positions have a routing map."""
    return {name: draw() for name, draw in comparison_drawings(scenes, theme).items()}


def comparison_drawings(scenes: Sequence[Scene], theme: Theme) -> dict[str, Callable[[], go.Figure]]:
    """The function that draws each of `comparison_figures`."""
    shared = {
        "compare_task_loss": task_loss,
        "compare_task_loss_difference": task_loss_difference,
        "compare_imbalance": imbalance_ratios,
        "compare_timeline": dead_experts,
    }
    drawings: dict[str, Callable[[], go.Figure]] = {name: partial(draw, scenes, theme) for name, draw in shared.items()}
    for index, (name, scene) in enumerate(zip(NAMES, scenes, strict=False)):
        for draw in (utilization, utilization_over_time, routing_map):
            if draw is not routing_map or scene.held_out.positions is not None:
                drawings[f"{draw.__name__}_{name}"] = partial(_of_run, draw, scene, theme, index)
    return drawings


def _of_run(draw: Callable[[Scene, Theme], go.Figure], scene: Scene, theme: Theme, index: int) -> go.Figure:
    """A figure of one run, whose traces say which run they follow."""
    figure = draw(scene, theme)
    figure.for_each_trace(lambda trace: trace.update(meta={**(trace.meta or {}), "run": index}))
    title = f"{NAMES[index]}: {figure.layout.title.text}"
    return figure.update_layout(title_text=title, meta={**figure.layout.meta, "run": index})


def task_loss(scenes: Sequence[Scene], theme: Theme = "light") -> go.Figure:
    """The smoothed task loss of every run."""
    figure = blank_figure(
        PALETTES[theme],
        "Task loss",
        f"smoothed over {SMOOTHING_HORIZON} steps",
        time=True,
        yaxis=dict(title="nats"),
        all_layers=True,
    )
    for index, scene in enumerate(scenes):
        values = smooth(scene.history.column("task_loss"))
        _line(figure, index, steps_of(scene), values, {"kind": "smoothed", "column": "task_loss"}, theme)
    return figure


def task_loss_difference(scenes: Sequence[Scene], theme: Theme = "light") -> go.Figure:
    """The smoothed task loss of every other run minus that of the first. The runs see the same batches, so the noise
    of the batches cancels out."""
    palette = PALETTES[theme]
    figure = blank_figure(
        palette, "Task loss compared with A", "difference", time=True, all_layers=True,
        yaxis=dict(title="nats, below 0 is better", rangemode="tozero"),
    )  # fmt: skip
    figure.add_hline(y=0, line=dict(color=palette.runs[0], width=1.5))
    base = smooth(scenes[0].history.column("task_loss"))
    for index, scene in enumerate(scenes[1:], start=1):
        values = smooth(scene.history.column("task_loss"))
        steps = min(len(base), len(values))
        meta = {"kind": "difference", "column": "task_loss", "baseline": 0}
        _line(figure, index, steps_of(scene)[:steps], values[:steps] - base[:steps], meta, theme)
    return figure


def imbalance_ratios(scenes: Sequence[Scene], theme: Theme = "light") -> go.Figure:
    """max/min of the smoothed load of every run, on a log axis; ∞ where an expert got no tokens."""
    top = max(infinity_level(scene.config) for scene in scenes)
    largest = max(scenes, key=lambda scene: infinity_level(scene.config))
    figure = imbalance(largest, theme)
    figure.data = ()
    for index, scene in enumerate(scenes):
        ratio = smoothed_imbalance(scene.history)
        values = np.where(np.isfinite(ratio), ratio, top)
        meta = {"kind": "ratio", "column": "imbalance", "infinity": top}
        text = ["∞" if np.isinf(value) else f"{value:.3g}" for value in ratio]
        _line(figure, index, steps_of(scene), values, meta, theme, hover="%{text}", text=text)
    return figure


def dead_experts(scenes: Sequence[Scene], theme: Theme = "light") -> go.Figure:
    """The times when experts were dead: a lane for each run, in it a bar for each spell, experts from top to bottom."""
    palette, lanes = PALETTES[theme], len(scenes)
    figure = blank_figure(
        palette, "Dead experts over time", "a bar for as long as an expert is dead, in its colour", time=True,
        hovermode="closest",
        yaxis=dict(range=[lanes * (1 + LANE_GAP) - LANE_GAP / 2, -LANE_GAP / 2], showgrid=False,
                   tickvals=[lane * (1 + LANE_GAP) + 0.5 for lane in range(lanes)], ticktext=list(NAMES[:lanes])),
    )  # fmt: skip
    for index, scene in enumerate(scenes):
        record = deaths(scene.run.layer(scene.probed_layer), scene.thresholds.dead_share)
        num_experts = scene.config.num_experts
        top = index * (1 + LANE_GAP)
        figure.add_hrect(y0=top, y1=top + 1, fillcolor=palette.accent, opacity=0.07, line_width=0, layer="below")
        colours = palette.expert_colours(num_experts)
        for expert in range(num_experts):
            height = top + (expert + 0.5) / num_experts
            x, y = spell_lines(record, expert, height)
            figure.add_scatter(
                x=x, y=y, mode="lines", line=dict(color=colours[expert], width=max(1.5, 32 / num_experts)),
                name=f"{NAMES[index]}, expert {expert + 1}",
                meta={"kind": "spells", "expert": expert, "height": height, "run": index},
                hovertemplate=f"{NAMES[index]}: expert {expert + 1} is dead at step %{{x}}<extra></extra>",
            )  # fmt: skip
    return figure


def spell_lines(record: DeathRecord, expert: int, height: float) -> tuple[list[float | None], list[float | None]]:
    """The spells of one expert as pieces of a line: x and y, with None between two pieces."""
    x: list[float | None] = []
    for first, last in record.spells[expert] if record.steps else ():
        x += [first, last, None]
    return x, [None if value is None else height for value in x]


def _line(
    figure: go.Figure, index: int, x: np.ndarray, y: np.ndarray, meta: dict[str, Any], theme: Theme,
    hover: str = "%{y:.3f}", **trace: Any,
) -> None:  # fmt: skip
    colour = PALETTES[theme].runs[index]
    figure.add_scatter(
        x=x, y=y, mode="lines", name=NAMES[index], line=dict(color=colour, width=2.4, dash=DASHES[index]),
        meta=meta | {"run": index}, hovertemplate=f"{NAMES[index]}: {hover}<extra></extra>", **trace,
    )  # fmt: skip
