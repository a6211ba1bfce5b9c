"""The museum: the run starts with its mistake, the answer is judged, and the address does not give it away."""

from __future__ import annotations

import re
from html import unescape

from streamlit.testing.v1 import AppTest

from moe_sim.teaching.museum.catalogue import EXHIBITS, TITLES
from pages.visitor.museum import answer_key
from tests.support.apps import address, opened, press, run_of, session_of, settled, turned_to


def museum(number: int = 1) -> AppTest:
    """The app as somebody sees it who opens a link to an exhibit."""
    return opened_by_link(str(number))


def opened_by_link(exhibit: str) -> AppTest:
    return turned_to(opened(exhibit=exhibit), "museum")


def answer(app: AppTest, number: int, title: str) -> AppTest:
    app.radio(key=answer_key(EXHIBITS[number - 1])).set_value(title)
    return settled(app)


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def texts(app: AppTest) -> str:
    prose = [unescape(re.sub("<[^>]+>", "", str(part.proto.body))) for part in app.get("html")]
    return " ".join([*prose, *(one.value for one in (*app.markdown, *app.code, *app.success, *app.warning, *app.info))])


def test_a_link_opens_an_exhibit_and_one_that_names_none_opens_the_first() -> None:
    assert address(museum(3)) == {"exhibit": "3"}
    for odd in ("0", "12", "x", "٣"):
        assert address(opened_by_link(odd)) == {"exhibit": "1"}


def test_the_run_has_the_mistake_and_trains_and_neither_address_nor_text_tells() -> None:
    for number, exhibit in enumerate(EXHIBITS, start=1):
        app = press(museum(number), "Start this exhibit")
        run = run_of(app)
        assert run.config == exhibit.config(0)
        assert run.plan == exhibit.plan
        assert run.state == "training"
        assert address(app) == {"exhibit": str(number)}
        assert tuple(app.radio(key=answer_key(exhibit)).options) == TITLES
        assert exhibit.giveaway not in texts(app)
        assert exhibit.wrong not in texts(app)
        assert "Start again" in labels(app)


def test_a_wrong_answer_gets_another_try_and_the_right_one_an_explanation() -> None:
    app, exhibit = museum(1), EXHIBITS[0]
    answer(app, 1, next(title for title in TITLES if title != exhibit.title))
    assert "That would look different." in app.warning[0].value
    assert exhibit.wrong not in texts(app)
    answer(app, 1, exhibit.title)
    assert not app.warning
    assert app.success[0].value.startswith("Right: ")
    for text in (exhibit.giveaway, *exhibit.explanation):
        assert text in texts(app)
    assert [code.value for code in app.code] == [exhibit.wrong, exhibit.right]
    assert f"#{exhibit.reports[0].number}" in texts(app)
    assert "✓ Exhibit 1" in labels(app)
    press(app, "Exhibit 2")
    assert not app.success
    assert "✓ Exhibit 1" in labels(app)


def test_whoever_gives_up_is_shown_the_answer_but_has_not_solved_it() -> None:
    app = press(museum(2), "Show me")
    assert app.info[0].value == f"{EXHIBITS[1].title}."
    assert "Exhibit 2" in labels(app)
    assert "Show me" not in labels(app)


def test_the_chart_that_gives_it_away_opens() -> None:
    app = press(press(museum(5), "Show me"), "Show me that chart")
    assert session_of(app).view.tab == EXHIBITS[4].tab


def test_the_run_can_be_trained_beside_the_healthy_one() -> None:
    app = press(press(museum(4), "Show me"), "Train it beside the healthy run")
    runs = session_of(app).comparison().run
    assert [plan.config.mistake for plan in runs.plans] == ["none", "lumped"]
    assert {**runs.plans[0].config.model_dump(), "mistake": "lumped"} == runs.plans[1].config.model_dump()
    assert address(app)["b"] == "0:mistake=lumped"


def test_answers_are_kept_while_another_page_is_open() -> None:
    app = answer(museum(1), 1, EXHIBITS[0].title)
    app = turned_to(turned_to(app, "glossary"), "museum")
    assert app.success
