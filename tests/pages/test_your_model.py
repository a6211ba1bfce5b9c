"""The page *Your model* through Streamlit's own test harness."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from moe_sim.charts.traces import TraceScene, figure_names
from moe_sim.config.settings import Settings
from moe_sim.history.trace import TraceHistory
from moe_sim.live import trace_folder
from moe_sim.live.trace_folder import Summary, TraceFolder
from moe_sim.server.server import Server
from pages.traces import charts
from pages.traces.my_traces import MOST_OPENED, MyTraces
from pages.visitor.trace_choice import TraceChoice, without_choice
from tests.support.apps import address, opened, run_of, settled, turned_to
from tests.support.traces import COLLAPSED, EVEN, write_trace


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_folder, "INTERVAL", 0)
    monkeypatch.setattr(trace_folder, "PAUSE", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three traces: a collapsed one, one with a collapsed layer, an even one."""
    write_trace(tmp_path / "bad", COLLAPSED, COLLAPSED, framework="transformers 5.24.0")
    write_trace(tmp_path / "mixed", EVEN, COLLAPSED, task_loss=2.5)
    write_trace(tmp_path / "good", EVEN, EVEN)
    return tmp_path


def page(folder: Path | None, **query: str) -> AppTest:
    server = Server(Settings(workers=0, slow_start=False, traces=folder))
    return shown(opened(server=server, **query))


def shown(app: AppTest) -> AppTest:
    """The page after a script run. A collapsed trace is no error of the page."""
    app.switch_page("your_model.py").run()
    return rerun(app)


def rerun(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def names(app: AppTest) -> list[str]:
    """The labels of the list."""
    return [one.label for one in app.sidebar.button if str(one.key).startswith("trace-")]


def texts(app: AppTest) -> str:
    return " ".join(one.value for one in [*app.markdown, *app.error, *app.warning, *app.success, *app.info])


def drawn(app: AppTest) -> list[dict]:
    return [json.loads(one.proto.spec) for one in app.get("plotly_chart")]


def test_without_a_folder_the_page_shows_the_example() -> None:
    app = page(None)
    assert names(app) == ["**mixtral-rescued**: Nearly balanced"]
    assert "All 4 layers are fine" in app.success[0].value
    assert len(drawn(app)) == len(figure_names(app.session_state["traces"].history("mixtral-rescued")))


def test_the_list_has_the_worst_first_and_opens_it(folder: Path) -> None:
    app = page(folder)
    assert names(app) == [
        "**bad**: Collapsed, block.0", "**mixed**: Collapsed, block.1", "**good**: Balanced",
    ]  # fmt: skip
    assert "Collapsed too: 1 other layer" in app.error[0].value
    assert "add one to its loss: moe_sim.losses.load_balancing_loss" in app.error[0].value


def test_a_click_opens_another_trace_and_the_address_says_so(folder: Path) -> None:
    app = page(folder)
    next(one for one in app.sidebar.button if one.label.startswith("**good**")).click()
    rerun(app)
    assert "All 2 layers are fine" in app.success[0].value
    assert address(app)["trace"] == "good"
    assert rerun(app).success


def test_the_worst_layer_is_shown_until_one_is_chosen(folder: Path) -> None:
    app = page(folder, trace="mixed")
    layer = next(one for one in app.selectbox if one.label == "Layer")
    assert layer.options == ["the worst", "block.0: Balanced", "block.1: Collapsed"]
    bars = next(one for one in drawn(app) if one["data"][0]["type"] == "bar")
    assert np.argmax(decoded(bars["data"][0]["y"])) == 0
    assert max(decoded(bars["data"][0]["y"])) == pytest.approx(98.5)
    layer.select("block.0")
    rerun(app)
    bars = next(one for one in drawn(app) if one["data"][0]["type"] == "bar")
    assert decoded(bars["data"][0]["y"]) == pytest.approx([25] * 4)
    assert address(app)["traced"] == "block.0"
    assert any("block.0: Balanced" in one.value for one in app.caption)


def decoded(values: Any) -> list[float]:
    """Plotly's arrays, which may be encoded."""
    if isinstance(values, dict):
        return np.frombuffer(b64decode(values["bdata"]), values["dtype"]).tolist()
    return list(values)


def test_two_traces_stand_side_by_side_on_the_same_scales(folder: Path) -> None:
    app = page(folder, trace="bad")
    beside = next(one for one in app.selectbox if one.label == "Beside it")
    assert beside.options == ["none", "mixed", "good"]
    beside.select("good")
    rerun(app)
    assert address(app)["beside"] == "good"
    assert app.error
    assert app.success
    left, right = [one for one in drawn(app) if one["data"][0]["type"] == "bar"]
    assert left["layout"]["yaxis"]["range"] == right["layout"]["yaxis"]["range"]
    ratios = [one for one in drawn(app) if one["layout"]["yaxis"].get("type") == "log"]
    assert ratios[0]["layout"]["yaxis"]["range"] == ratios[1]["layout"]["yaxis"]["range"]


def test_what_only_one_of_two_traces_has_is_shown_on_its_side(folder: Path) -> None:
    app = page(folder, trace="good", beside="mixed")
    assert any("task loss: not recorded here" in one.value for one in app.caption)


def test_a_link_to_what_is_not_there_gets_a_sentence_and_shows_the_rest(folder: Path) -> None:
    app = page(folder, trace="<b>gone</b>", beside="gone too", traced="block.9")
    assert any("There is no trace named" in one.value for one in app.warning)
    assert "Collapsed" in app.error[0].value
    assert next(one for one in app.selectbox if one.label == "Layer").value == ""


def test_the_page_shows_what_has_been_added(folder: Path) -> None:
    app = page(folder, trace="good")
    assert "step 30, 30 records" in texts(app)
    write_trace(folder / "good", EVEN, COLLAPSED, records=200)
    rerun(app)
    assert "step 230, 230 records" in texts(app)
    assert "Collapsed" in app.error[0].value


def test_the_page_is_drawn_to_its_end_where_records_come_faster_than_it_is_drawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = page(folder, trace="good")
    look, added = TraceFolder.summaries, []

    def grow(self: TraceFolder) -> list[Summary]:
        if len(added) < 20:  # a page that is drawn again and again ends then
            write_trace(folder / "good", EVEN, EVEN, records=1)
            added.append(1)
        return look(self)

    monkeypatch.setattr(TraceFolder, "summaries", grow)
    assert "step 31, 31 records" in texts(rerun(app))
    assert "step 32, 32 records" in texts(rerun(app))


def test_a_trace_that_vanishes_leaves_the_page_standing(folder: Path) -> None:
    app = page(folder, trace="good")
    (folder / "good" / "trace.jsonl").unlink()
    rerun(app)
    assert any("There is no trace named good here" in one.value for one in app.warning)
    assert "Collapsed" in app.error[0].value


def test_an_empty_folder_and_a_trace_without_a_record_say_how_to_go_on(tmp_path: Path) -> None:
    app = page(tmp_path)
    assert any("No trace in" in one.value for one in app.caption)
    assert any("moe_sim.watch" in one.value for one in app.code)
    write_trace(tmp_path / "new", EVEN, records=0)
    assert "has no record yet" in rerun(app).info[0].value


def test_names_with_marks_are_shown_as_they_are(tmp_path: Path) -> None:
    write_trace(tmp_path / "*a* [b](c) :red[d]", COLLAPSED, model="<script>alert(1)</script>")
    app = page(tmp_path)
    assert names(app) == ["**\\*a\\* \\[b\\](c) \\:\N{WORD JOINER}red\\[d\\]**: Collapsed, block.0"]
    assert "<script>" not in texts(app)


def test_many_traces_can_be_filtered(tmp_path: Path) -> None:
    for number in range(40):
        write_trace(tmp_path / f"run-{number:02}", (1, 1), records=1)
    app = page(tmp_path)
    assert len(names(app)) == 30
    assert any("And 10 more" in one.value for one in app.sidebar.caption)
    app.sidebar.text_input[0].input("RUN-39")
    assert names(rerun(app)) == ["**run-39**: Starting"]


def test_another_trace_leaves_the_run_of_the_live_page_alone(folder: Path) -> None:
    app = page(folder, num_experts="4")
    run = run_of(app)
    for name in ("good", "mixed"):
        app.query_params["trace"] = name
        app.session_state["session"]._address._written_at = -1e9  # as if the visitor had gone back later
        rerun(app)
        assert app.session_state["session"].traces.name == name
        assert run_of(app) is run
    app = settled(turned_to(app, "glossary"))
    assert "trace" not in address(app)


def test_a_choice_survives_its_link() -> None:
    choice = TraceChoice("a/b c", "d", "model.layers.3")
    assert TraceChoice.from_query(choice.to_query()) == choice
    assert TraceChoice().to_query() == {}
    assert without_choice(choice.to_query() | {"v": "3"}) == {"v": "3"}


def test_the_visitors_own_files_come_beside_those_of_the_host(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    app = page(folder)
    mine: MyTraces = app.session_state["traces"]
    content = write_trace(tmp_path_factory.mktemp("mine"), EVEN, COLLAPSED).read_bytes()
    for number in range(MOST_OPENED + 1):
        name = mine.open(f"{number}.jsonl", content)
    assert len(mine.opened) == MOST_OPENED
    app.session_state["session"].look_at_trace(name=name)
    rerun(app)
    assert f"**{MOST_OPENED}.jsonl (uploaded)**: Collapsed, block.1" in names(app)
    assert "block.1: expert 0 takes 98" in app.error[0].value


def test_charts_over_time_run_over_the_same_range() -> None:
    first, second = go.Figure(go.Scatter(y=[1.0, 3.0])), go.Figure(go.Scatter(y=[0.0, float("nan")]))
    charts.align([first, second])
    assert tuple(first.layout.yaxis.range) == tuple(second.layout.yaxis.range) == pytest.approx((-0.15, 3.15))


def test_every_chart_of_a_trace_is_among_those_that_are_shown(folder: Path) -> None:
    history = TraceHistory(folder / "mixed" / "trace.jsonl")
    scene = TraceScene(history)
    assert sorted(charts.ordered(scene)) == sorted(figure_names(history))
    assert charts.ordered(scene)[:2] == ["experts_by_layer", "layers_over_time"]
