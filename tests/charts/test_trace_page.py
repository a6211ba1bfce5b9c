"""A trace as one HTML page: complete, it fetches nothing, and no name in a file becomes markup."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest

from moe_sim.charts.trace_page import small_print, trace_slide, trace_to_html
from moe_sim.charts.traces import TraceScene, figure_names
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.trace import TraceHistory, open_trace
from tests.charts.test_html_page import Tags, read_page
from tests.support.drawn_traces import draw_trace
from tests.support.traces import COLLAPSED, EVEN, write_trace

HOSTILE = (
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>',
    "\");alert(1)//", "</title></style><!--", "<a href='https://evil.example'>x</a>", "%{x}{y}<br>", "\u2028\x00🙂", "",
)  # fmt: skip


def ids(page: Tags, tag: str) -> list[str | None]:
    return [attributes.get("id") for one, attributes in page.tags if one == tag]


def table_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the rows of the table below a heading, but for its head, as they are in the source."""
    table = text[text.index(f"<h2>{heading}</h2>") :].partition("</table>")[0]
    rows = [row.partition("</tr>")[0] for row in table.split("<tr>")[1:]]
    return [[cell.partition("</td>")[0] for cell in row.split("<td>")[1:]] for row in rows if "<td>" in row]


def test_a_page_has_every_chart_the_verdict_the_layers_and_the_settings(tmp_path: Path) -> None:
    settings = {"model_type": "mixtral", "router_aux_loss_coef": 0.001}
    history = draw_trace(tmp_path, (4, 9), numbers={"task_loss": np.ones(30)}, settings=settings).history
    text = trace_to_html(history)
    page = read_page(text)
    assert ids(page, "figure") == figure_names(history)
    plots = [name for name in ids(page, "div") if name]
    assert len(set(plots)) == len(figure_names(history))
    assert all(f'getElementById("{name}")' in text for name in plots)
    assert "<title>Mixtral: uneven</title>" in text
    assert "of 4 experts is dead" in page.text
    assert table_rows(text, "Settings") == [["model_type", "mixtral"], ["router_aux_loss_coef", "0.001"]]
    assert "Mixtral · frame 1.0 · layer model.layers.0.mlp · step 30" in page.text


def test_the_layers_stand_below_one_another_with_the_worst_first(tmp_path: Path) -> None:
    history = open_trace(write_trace(tmp_path, EVEN, COLLAPSED, (90, 110)))
    rows = [[cell.replace("\u00a0", " ") for cell in row] for row in table_rows(trace_to_html(history), "Layers")]
    assert rows[0][:2] == ["block.1", "4"]
    assert rows[0][3] == "Collapsed"
    assert rows[1:] == [["block.2", "2", "55 %", "Balanced"], ["block.0", "4", "25 %", "Balanced"]]
    assert "<h2>Settings</h2>" not in trace_to_html(history)


def test_charts_of_one_layer_show_the_worst_one_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    history = open_trace(write_trace(tmp_path, EVEN, COLLAPSED))
    assert "layer block.1 · step 30" in read_page(trace_to_html(history)).text
    assert "layer block.0 · step 30" in read_page(trace_to_html(history, 0)).text


def test_thresholds_change_the_verdict_of_the_page_and_of_its_layers(tmp_path: Path) -> None:
    history = open_trace(write_trace(tmp_path, EVEN, (60, 60, 60, 220)))
    assert table_rows(trace_to_html(history), "Layers")[0][3] == "Collapsed"
    strict = trace_to_html(history, thresholds=Thresholds(collapse_share=1))
    assert table_rows(strict, "Layers")[0][3] == "Uneven"


@pytest.mark.parametrize("records", [0, 1])
def test_a_page_can_be_made_before_there_is_much_to_see(tmp_path: Path, records: int) -> None:
    history = draw_trace(tmp_path, records=records, model="").history
    page = read_page(trace_to_html(history))
    assert f"A model: {'collapsed' if records else 'ready'}" in page.text
    assert ids(page, "figure") == figure_names(history)
    assert ("no record" in page.text) == (records == 0)


def test_a_page_fetches_nothing_and_has_plotly_once(tmp_path: Path) -> None:
    text = trace_to_html(draw_trace(tmp_path).history)
    page = read_page(text)
    assert text.count("plotly.js v") == 1
    for tag, attributes in page.tags:
        assert tag not in {"a", "link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "srcset", "data", "action", "poster", "background"} & set(attributes)
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert [(policy or "").startswith("default-src 'none'; ") for policy in policies] == [True]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_in_a_file_becomes_markup(tmp_path: Path, name: str) -> None:
    harmless = trace_to_html(_named(tmp_path / "harmless", "plain"))
    hostile = trace_to_html(_named(tmp_path / "hostile", name))
    assert [tag for tag, _ in read_page(hostile).tags] == [tag for tag, _ in read_page(harmless).tags]
    assert [sorted(of) for _, of in read_page(hostile).tags] == [sorted(of) for _, of in read_page(harmless).tags]
    assert hostile.count("<script") == harmless.count("<script")
    assert hostile.count("</script>") == harmless.count("</script>")
    plots = [one for one in ids(read_page(hostile), "div") if one]
    assert plots == [one for one in ids(read_page(harmless), "div") if one]
    layers = table_rows(hostile, "Layers")
    assert {row[0] for row in layers} == {html.escape(f"{name}.0"), html.escape(f"{name}.1")}
    assert [html.escape(name), html.escape(name)] in table_rows(hostile, "Settings")


def _named(folder: Path, name: str) -> TraceHistory:
    """A trace in which everything that has a name has this one."""
    return draw_trace(
        folder, names=[f"{name}.0", f"{name}.1"], groups=(name, "other"), numbers={name: np.arange(30.0)},
        settings={name: name}, model=name,
    ).history  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text_in_the_small_print_of_a_slide(tmp_path: Path, name: str) -> None:
    scene = TraceScene(_named(tmp_path, name), 1)
    for chart in figure_names(scene.history):
        note = trace_slide(scene, chart).layout.annotations[-1].text
        assert "<" not in note.replace("<br>", "")
        assert "step 30" in note


def test_the_small_print_says_which_trace_it_is(tmp_path: Path) -> None:
    history = open_trace(write_trace(tmp_path / "a", EVEN, COLLAPSED, records=1_500, framework="transformers 5.0"))
    assert small_print(TraceScene(history, 1)) == "Mixtral · transformers 5.0 · layer block.1 · step 1,500"
    nothing = open_trace(write_trace(tmp_path / "b", EVEN, records=0, model=""))
    assert small_print(TraceScene(nothing)) == "layer block.0 · no record"
