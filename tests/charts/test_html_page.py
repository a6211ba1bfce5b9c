"""A run as one HTML page: complete, and it fetches nothing."""

from __future__ import annotations

import html
import json
from html.parser import HTMLParser

import pytest

from moe_sim.charts.html_page import run_to_html
from moe_sim.charts.scene import Scene
from moe_sim.charts.slides import shown_figures
from moe_sim.cli.run import scene_of
from tests.support.exported import RUNS, train


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data


def read_page(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


@pytest.mark.parametrize("name", ["collapsing", "not begun", "text", "diverging", "many experts"])
def test_a_page_can_be_made_of_every_kind_of_run(name: str) -> None:
    trainer = train(*RUNS[name])
    scene = scene_of(trainer)
    page = read_page(run_to_html(scene, diverged=trainer.diverged))
    figures = [attributes["id"] for tag, attributes in page.tags if tag == "figure"]
    assert figures == list(shown_figures(scene))
    assert ("routing_map" in figures) == (name != "text")
    assert trainer.diverged == (name == "diverging")
    assert ("Diverged." in page.text) == trainer.diverged


def test_a_page_fetches_nothing_and_has_plotly_once(moved: Scene) -> None:
    text = run_to_html(moved, "https://lab.example/?v=1")
    page = read_page(text)
    assert text.count("plotly.js v") == 1
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "srcset", "data", "action", "poster", "background"} & set(attributes)
        assert "href" not in attributes or tag == "a"
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["https://lab.example/?v=1"]
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert len(policies) == 1
    assert policies[0] is not None
    assert policies[0].startswith("default-src 'none'")
    assert "url(" not in text[: text.index("<script>")]


@pytest.mark.parametrize(
    "link", ['"><script>alert(1)</script>', "javascript:alert(1)", "https://x/?a=1&b=<img src=x onerror=alert(1)>"]
)
def test_markup_in_a_link_stays_text(link: str, moved: Scene) -> None:
    text = run_to_html(moved, link)
    assert link not in text or html.escape(link) == link
    plain = [tag for tag, _ in read_page(run_to_html(moved)).tags if tag != "p"]
    tags = read_page(text).tags
    assert [tag for tag, _ in tags if tag not in {"p", "a"}] == plain
    assert all((attributes["href"] or "").startswith("https://") for tag, attributes in tags if tag == "a")
    assert link in read_page(text).text


def test_a_page_tells_state_moves_and_the_changed_knobs_first(moved: Scene) -> None:
    page = run_to_html(moved)
    text = read_page(page).text
    assert "at step 40" in text
    assert text.count("num_experts=4 · seed=3 · moved 20:aux_loss_coef=0.1;20:capacity_factor=1 · step 40") == 1
    rows = page[page.index("<h2>Configuration</h2>") :].split("<tr")[2:]
    assert ["class=changed" in row for row in rows] == [True] * 2 + [False] * (len(rows) - 2)
    marks = page.count(json.dumps("α 0 → 0.1, capacity off → 1")[1:-1]) + page.count("α 0 → 0.1, capacity off → 1")
    assert marks == sum(bool(figure.layout.meta["time"]) for figure in shown_figures(moved).values())


def test_figures_that_mean_nothing_under_these_knobs_are_left_out(moved: Scene) -> None:
    assert "selection_bias" not in shown_figures(moved)
    assert "selection_bias" in shown_figures(scene_of(train({"balancing": "bias"}, 3, {})))
    assert next(iter(shown_figures(moved))) == "routing_map"
