"""A chart of a run or a trace by its name, as it stands alone: in a notebook or a report.

n steps, L layers, E experts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from moe_sim.config.errors import InvalidInput, UnknownName
from moe_sim.config.extras import require
from moe_sim.config.suggestions import did_you_mean
from moe_sim.history.column_meanings import COLUMN_MEANINGS
from moe_sim.history.history import History
from moe_sim.history.trace import TraceHistory

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from moe_sim.charts.palette import Theme
    from moe_sim.trainer.trainer import Trainer

ALIASES = {
    "load": "utilization_over_time", "smoothed_load": "utilization_over_time", "imbalance_ratio": "imbalance",
    "smoothed_imbalance": "imbalance",
}  # fmt: skip
"""Columns that have a chart of their own under another name."""
OF_HELD_OUT_TOKENS = ("routing_map", "specialization", "coactivation")
"""Charts that show what the weights do now, which a history does not record."""


def plot(
    run: Trainer | History | TraceHistory, name: str, layer: int | str | None = None, theme: Theme = "light"
) -> go.Figure:
    """Draws a chart of a run of ours or of a trace.

    The names of the charts are those of the page: `moe_sim.charts.page.PAGE_FIGURES` for a run,
    `moe_sim.charts.traces.figure_names(trace)` for a trace. The name of a column draws it over the steps, a line for
    each expert where it has one; `load` draws `utilization_over_time`, `imbalance_ratio` draws `imbalance`. A name that
    is both, such as `specialization`, is the chart where there is one.

    Experts are counted from 1 in a run of ours, and from 0, as the model counts them, in a trace.

    Args:
        run: a trainer; or a history, which lacks the charts of the held-out tokens' routing; or a trace.
        name: of a chart or a column.
        layer: counted from 0, or, of a trace, the name of its module. None for the mean of all layers, in a trace for
            the layer with the worst verdict.
        theme: light or dark.

    Returns:
        A Plotly figure; in a notebook it shows itself.

    Raises:
        UnknownName: with a sentence, if there is no such chart, column, layer or theme.
        InvalidInput: for a run without a step.
        MissingPackage: without plotly.
    """
    require("plotly", "A chart")
    from moe_sim.charts.palette import PALETTES

    _see_that_it_is_known("theme", theme, PALETTES)
    if isinstance(run, TraceHistory):
        return _of_trace(run, name, layer, theme)
    return _of_run(run, name, layer, theme)


def _of_run(run: Trainer | History, name: str, layer: int | str | None, theme: Theme) -> go.Figure:
    from moe_sim.charts.columns import run_column, run_columns
    from moe_sim.charts.figure import mark_events, standing_alone
    from moe_sim.charts.page import PAGE_FIGURES, figure_names
    from moe_sim.charts.scene import Scene

    history = run if isinstance(run, History) else run.history
    if layer is not None:
        _see_that_it_is_known("layer", layer, range(history.num_layers))
    shown = cast("int | None", layer)
    if isinstance(run, History):
        if not len(run):
            raise InvalidInput("This run has no step yet, so there is nothing to draw.")
        # The routing of held-out tokens and the task are missing; no chart that is drawn here looks at them.
        scene = Scene(run, run.config_at(len(run) + 1), cast(Any, None), cast(Any, None), layer=shown)
        absent = (*OF_HELD_OUT_TOKENS, *["experts_by_layer"] * (run.num_layers == 1))
        charts = tuple(one for one in PAGE_FIGURES if one not in absent)
    else:
        scene = Scene(history, run.config, run.probe(), run.task, layer=shown)
        charts = figure_names(scene)
    columns = run_columns()
    chart = ALIASES.get(name, name)
    if chart not in charts and name not in columns and isinstance(run, History) and name in OF_HELD_OUT_TOKENS:
        raise UnknownName(f"The chart {name} shows what the weights do now; Trainer.plot draws it, a history cannot.")
    _see_that_it_is_known("chart or column", chart, [*charts, *columns])
    figure = PAGE_FIGURES[chart](scene, theme) if chart in charts else run_column(scene, chart, theme)
    if figure.layout.meta["time"]:
        mark_events(figure, scene, theme)
    return standing_alone(figure, theme)


def _of_trace(trace: TraceHistory, name: str, layer: int | str | None, theme: Theme) -> go.Figure:
    from moe_sim.charts.columns import trace_column
    from moe_sim.charts.figure import standing_alone
    from moe_sim.charts.traces import FIGURES, TraceScene, draw, figure_names
    from moe_sim.diagnosis.traces import diagnose_trace

    if not len(trace):
        raise InvalidInput("This trace has no record yet, so there is nothing to draw.")
    if layer is None:
        layer = diagnose_trace(trace).layer or 0
    _see_that_it_is_known("layer", layer, [*range(trace.num_layers), *trace.layer_names])
    index = trace.layer_names.index(layer) if isinstance(layer, str) else layer
    scene, charts = TraceScene(trace, index), figure_names(trace)
    columns = [one for one in trace.columns if one != "step"]
    chart, known = ALIASES.get(name, name), [*charts, *columns]
    if chart not in known and (chart in FIGURES or chart in COLUMN_MEANINGS["trace"]):
        raise UnknownName(f"This trace has no numbers for {chart}; choose from {', '.join(known)}.")
    _see_that_it_is_known("chart or column", chart, known)
    figure = draw(scene, chart, theme) if chart in charts else trace_column(scene, chart, theme)
    return standing_alone(figure, theme)


def _see_that_it_is_known(noun: str, name: object, known: Any) -> None:
    """Raises UnknownName, with the name that was probably meant, for what is not among the known ones."""
    if name not in known or isinstance(name, bool):
        names = [str(one) for one in known]
        end = did_you_mean(str(name), names, f"; choose from {', '.join(names)}.")
        raise UnknownName(f"There is no {noun} {str(name)[:40]!r}{end}")
