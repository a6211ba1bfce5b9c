"""Figures as slides: large, light, titled, with the small print that reproduces them."""

from __future__ import annotations

import numpy as np
import pytest

from moe_sim import Event, History, RunConfig, Trainer
from moe_sim.charts.overview import routing_map
from moe_sim.charts.page import PAGE_FIGURES
from moe_sim.charts.palette import PALETTES
from moe_sim.charts.scene import Scene
from moe_sim.charts.slides import shown_figure, shown_figures, slide_figure, small_print
from moe_sim.cli.run import scene_of
from tests.support.exported import train


def test_the_small_print_says_which_run_it_is(moved: Scene) -> None:
    assert small_print(moved, "https://lab.example/?v=1") == (
        "num_experts=4 · seed=3 · moved 20:aux_loss_coef=0.1;20:capacity_factor=1 · step 40 · https://lab.example/?v=1"
    )
    assert small_print(scene_of(Trainer(RunConfig()))) == "default configuration · seed=0 · step 0"


def test_the_small_print_of_a_run_with_many_moves_stays_short(moved: Scene) -> None:
    history = History(RunConfig())
    for step in range(50):
        history.record_event(Event(step, {"aux_loss_coef": step / 100}))
    words = small_print(Scene(history, moved.config, moved.probe, moved.task))
    assert "and 44 more" in words
    assert len(words) < 250


def test_a_slide_is_large_light_titled_and_marked(moved: Scene) -> None:
    for name, figure in shown_figures(moved).items():
        before = figure.to_json()
        slide = slide_figure(figure, moved, "https://lab.example/?a=1&b=<b>")
        assert figure.to_json() == before
        layout = slide.layout
        assert (layout.width, layout.height, layout.paper_bgcolor) == (1600, 900, "#ffffff")
        assert layout.title.text == figure.layout.title.text
        assert layout.title.subtitle.text == figure.layout.meta["caption"]
        print_ = layout.annotations[-1]
        assert "step 40" in print_.text
        assert "a=1&amp;b=&lt;b&gt;" in print_.text
        sizes = [layout.font.size, layout.title.font.size, layout.title.subtitle.font.size, layout.legend.font.size]
        sizes += [note.font.size for note in layout.annotations[:-1]]
        for axis in (layout.xaxis, layout.yaxis, *([layout.yaxis2] if "yaxis2" in before else [])):
            sizes += [axis.title.font.size, axis.tickfont.size]
        assert min(sizes) >= 22, name
        marks = [note.text for note in layout.annotations if "α 0 → 0.1" in note.text]
        assert len(marks) == bool(figure.layout.meta["time"])


def test_marks_on_a_slide_take_turns_and_stay_inside() -> None:
    moves = {10: {"aux_loss_coef": 0.1}, 12: {"top_k": 2}, 38: {"noise_std": 1.0}}
    scene = scene_of(train({}, 40, moves))
    slide = slide_figure(shown_figures(scene)["imbalance"], scene)
    marks = [note for note in slide.layout.annotations if "→" in note.text]
    assert [mark.xanchor for mark in marks] == ["left", "left", "right"]
    assert all((mark.y, mark.yref, mark.yanchor) == (1, "paper", "bottom") for mark in marks), "above the curves"
    assert marks[0].yshift > marks[1].yshift, "the second line ends below the first label"
    assert len({mark.yshift for mark in marks}) == 3
    top = slide.layout.margin.t - max(mark.yshift for mark in marks) - slide.layout.title.font.size
    assert top > 100, "below title and caption"
    plot_height = 900 - slide.layout.margin.t - slide.layout.margin.b
    lines = [shape for shape in slide.layout.shapes if shape.x0 in moves]
    for mark, line in zip(marks, lines, strict=True):
        assert mark.yshift < (line.y1 - 1) * plot_height < mark.yshift + mark.font.size, "a line reaches its label"


@pytest.mark.parametrize(("experts", "named"), [(4, 4), (40, 16)])
def test_a_map_on_a_slide_has_equal_scales_and_a_legend_of_its_experts(experts: int, named: int) -> None:
    scene = scene_of(train({"num_experts": experts, "capacity_factor": 0.5}, 20, {}))
    slide = slide_figure(routing_map(scene), scene)
    assert (slide.layout.yaxis.scaleanchor, slide.layout.showlegend) == ("x", True)
    *experts_named, dropped = [trace for trace in slide.data if trace.showlegend is not False]
    assert len(experts_named) == named
    tokens = np.bincount(scene.probe.expert, minlength=experts)
    for trace in experts_named:
        number = int(trace.name.split()[1].rstrip(":")) - 1
        assert trace.marker.color == PALETTES["light"].expert_colours(experts)[number]
        share = 100 * tokens[number] / tokens.sum()
        assert trace.name.endswith(f": {share:.0f}\u00a0%" if share else ": none")
    assert (dropped.name, scene.probe.dropped.any()) == ("dropped", True)


def test_lines_of_experts_are_named_on_a_slide_and_the_map_is_not_crowded(moved: Scene) -> None:
    figures = shown_figures(moved)
    assert slide_figure(figures["utilization_over_time"], moved).layout.showlegend
    assert not slide_figure(figures["imbalance"], moved).layout.showlegend
    assert slide_figure(routing_map(moved), moved).data[0].marker.size > routing_map(moved).data[0].marker.size


def test_one_slide_draws_one_figure(moved: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    for name, draw in PAGE_FIGURES.items():
        monkeypatch.setitem(PAGE_FIGURES, name, lambda *scene, name=name, draw=draw: drawn.append(name) or draw(*scene))
    assert shown_figure(moved, "imbalance") is not None
    assert shown_figure(moved, "selection_bias") is None
    assert shown_figure(moved, "unknown") is None
    assert drawn == ["imbalance", "selection_bias"]
