"""Charts by name: every chart and every column can be drawn, with the numbers of the columns; a wrong name is said."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

import moe_sim
from moe_sim import History, RunConfig, TraceHistory, Trainer, open_trace
from moe_sim.charts import plotting
from moe_sim.charts.columns import run_columns
from moe_sim.charts.page import PAGE_FIGURES
from moe_sim.charts.plotting import ALIASES, OF_HELD_OUT_TOKENS
from moe_sim.charts.traces import figure_names
from moe_sim.config.errors import InvalidInput, MissingPackage, UnknownName
from moe_sim.history.trace_format import Routed, TracedLayer, TraceHeader, TraceRecord
from moe_sim.history.trace_writer import TraceWriter


@pytest.fixture(scope="module", params=[1, 2])
def trainer(request: pytest.FixtureRequest) -> Trainer:
    trainer = Trainer(RunConfig(num_layers=request.param, num_experts=4, top_k=2))
    trainer.run(15)
    trainer.update(aux_loss_coef=0.1)
    trainer.run(15)
    return trainer


@pytest.fixture(scope="module")
def history(trainer: Trainer) -> History:
    return trainer.history


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> TraceHistory:
    """Layer b.1 is collapsed; layer a.1 is even."""
    path = tmp_path_factory.mktemp("trace")
    layers = (TracedLayer("a.1", 4, "logits"), TracedLayer("b.1", 3, "logits"))
    with TraceWriter(path, TraceHeader(layers)) as writer:
        for step in range(1, 81):
            counts = np.array([10, 11, 9, 10, 40, 0, 0]) + np.array([step % 2, 0, 0, 0, 0, 0, 0])
            shares = np.array([0.25, 0.25, 0.25, 0.25, 0.8, 0.1, 0.1])
            routed = Routed(np.array([40, 40]), counts, shares, np.array([0.9, 0.1]), np.ones(2), np.ones(2))
            evaluation = routed if step % 40 == 0 else None
            writer.write(TraceRecord(step, routed, evaluation, {"task_loss": 3 - step / 40}))
    return open_trace(path)


def test_a_trainer_draws_every_chart_of_the_page_and_every_column(trainer: Trainer) -> None:
    charts = set(PAGE_FIGURES) - (set() if trainer.config.num_layers > 1 else {"experts_by_layer"})
    for name in {*charts, *run_columns()}:
        figure = trainer.plot(name)
        assert isinstance(figure, go.Figure), name
        assert figure.layout.title.text, name
        figure.to_json()


def test_a_history_draws_all_but_the_routing_of_held_out_tokens(history: History) -> None:
    charts = set(PAGE_FIGURES) - set(OF_HELD_OUT_TOKENS) - {"experts_by_layer"}
    for layer in (None, 0):
        for name in {*charts, *run_columns()}:
            history.plot(name, layer=layer, theme="dark").to_json()
    for name in ("routing_map", "coactivation"):
        with pytest.raises(UnknownName, match=r"Trainer\.plot draws it"):
            history.plot(name)
    if history.num_layers > 1:
        assert history.plot("experts_by_layer").data[0].type == "heatmap"


def test_what_is_no_chart_of_a_history_is_its_column(history: History, trainer: Trainer) -> None:
    line = history.plot("specialization").data[-1]
    np.testing.assert_array_equal(line.y, history.column("specialization"))
    assert trainer.plot("specialization").data[0].type == "heatmap"


def test_load_is_the_utilization_over_time_with_experts_from_one(history: History) -> None:
    figure = history.plot("load", layer=0)
    assert [line.name for line in figure.data] == [f"expert {number}" for number in range(1, 5)]
    np.testing.assert_allclose([line.y for line in figure.data], 100 * history.column("smoothed_load")[:, 0].T)
    for column, chart in ALIASES.items():
        assert history.plot(column) == history.plot(chart)


def test_a_number_of_single_steps_is_drawn_with_its_moving_average(history: History) -> None:
    each, mean = history.plot("task_loss").data
    losses = history.column("task_loss")
    np.testing.assert_array_equal(each.y, losses)
    np.testing.assert_array_equal(mean.x, history.column("step"))
    np.testing.assert_allclose(mean.y, pd.Series(losses).ewm(alpha=1 / 20).mean())
    assert history.plot("task_loss").layout.yaxis.title.text == "task loss, nats"
    (dead,) = history.plot("dead_experts").data
    np.testing.assert_array_equal(dead.y, history.column("dead_experts"))


def test_a_column_of_experts_has_a_line_for_each_and_no_gaps(history: History) -> None:
    lines = history.plot("eval_load", layer=0).data
    np.testing.assert_array_equal(lines[2].y, history.column("eval_load")[9::10, 0, 2])
    assert lines[2].x.tolist() == [10, 20, 30]
    choices = history.plot("dropped_by_choice", layer=0).data
    assert len(choices[0].y) == 8  # the chart of the page
    assert [line.name for line in history.plot("importance").data] == [f"expert {n}" for n in range(1, 5)]


def test_changes_of_knobs_are_marked_on_time_axes(history: History) -> None:
    for name in ("task_loss", "imbalance"):
        assert "α 0 → 0.1" in [note.text for note in history.plot(name).layout.annotations]


def test_the_chart_has_its_own_title_caption_and_background(history: History) -> None:
    layout = history.plot("utilization").layout
    assert layout.title.text == "Expert utilization"
    assert layout.title.subtitle.text.startswith("share of token choices")
    assert layout.margin.t >= 60
    dark = history.plot("utilization", theme="dark").layout
    assert layout.paper_bgcolor != dark.paper_bgcolor
    assert "rgba(0,0,0,0)" not in (layout.paper_bgcolor, dark.paper_bgcolor)


def test_a_trace_draws_every_chart_and_every_column(trace: TraceHistory) -> None:
    names = {*figure_names(trace), *trace.columns} - {"step"}
    assert {"router", "task_loss", "eval_load", "top_k", "busiest_share"} <= names
    for name in names:
        for layer in (None, 0, "b.1"):
            trace.plot(name, layer=layer, theme="dark").to_json()


def test_a_trace_shows_the_worst_layer_and_counts_experts_from_zero(trace: TraceHistory) -> None:
    assert [line.name for line in trace.plot("load").data] == ["expert 0", "expert 1", "expert 2"]
    assert trace.plot("importance") == trace.plot("importance", layer="b.1") == trace.plot("importance", layer=1)
    lines = trace.plot("importance", layer="a.1").data
    np.testing.assert_allclose(lines[3].y, 0.25)
    np.testing.assert_allclose(trace.plot("top_k", layer=1).data[-1].y, 1)
    np.testing.assert_allclose(trace.plot("eval_load").data[0].x, [40, 80])


@pytest.mark.parametrize(
    ("name", "how", "sentence"),
    [
        ("laod", {}, "There is no chart or column 'laod'; did you mean load?"),
        ("utilisation", {}, "There is no chart or column 'utilisation'; did you mean utilization?"),
        ("load", {"layer": 7}, "There is no layer '7'; choose from 0"),
        ("load", {"layer": True}, "There is no layer 'True'; choose from 0"),
        ("load", {"theme": "drak"}, "There is no theme 'drak'; did you mean dark?"),
    ],
)
def test_a_wrong_name_gets_a_sentence(name: str, how: dict[str, object], sentence: str, trainer: Trainer) -> None:
    for run in (trainer, trainer.history):
        with pytest.raises(UnknownName) as error:
            run.plot(name, **how)  # type: ignore[arg-type]
        assert str(error.value).startswith(sentence)


def test_a_wrong_name_of_a_trace_gets_a_sentence(trace: TraceHistory) -> None:
    with pytest.raises(UnknownName, match=r"^There is no chart or column 'ruoter'; did you mean router\?$"):
        trace.plot("ruoter")
    with pytest.raises(UnknownName, match=r"^This trace has no numbers for specialization; choose from "):
        trace.plot("specialization")
    with pytest.raises(UnknownName, match=r"^This trace has no column 'laod'; did you mean load\?$"):
        trace.column("laod")
    with pytest.raises(UnknownName, match=r"^This trace has no column 'specialization'; it has step, "):
        trace.column("specialization")
    with pytest.raises(UnknownName, match=r"^There is no layer 'c\.1'; did you mean [ab]\.1\?$"):
        trace.plot("load", layer="c.1")


def test_before_the_first_step_a_trainer_draws_and_a_history_says_that_there_is_nothing(tmp_path: Path) -> None:
    trainer = Trainer(RunConfig())
    assert trainer.plot("utilization").data[0].y.sum() == pytest.approx(100)
    with pytest.raises(InvalidInput, match="no step yet"):
        trainer.history.plot("utilization")
    with TraceWriter(tmp_path, TraceHeader((TracedLayer("a", 2),))):
        pass
    with pytest.raises(InvalidInput, match="no record yet"):
        open_trace(tmp_path).plot("load")


def test_without_plotly_the_extra_is_named(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingPackage, match=r"A chart needs the package plotly: pip install .*\[figures\]"):
        history.plot("load")


def test_the_function_of_the_package_draws_them_all(history: History, trace: TraceHistory) -> None:
    assert moe_sim.plot is plotting.plot
    assert moe_sim.plot(history, "load") == history.plot("load")
    assert moe_sim.plot(trace, "load") == trace.plot("load")
