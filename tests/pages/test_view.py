"""The view in a link: round trips, invalid values, and the names shared with the browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import KNOBS
from moe_sim.charts.page import PAGE_FIGURES
from moe_sim.teaching.level import LEVELS
from pages.dashboard.run_board import VIEWS
from pages.visitor.view import HIDEABLE, LOG_AXES, PARTS, TABS, View, view_from_query

DASHBOARD = Path(__file__).resolve().parents[2] / "pages" / "dashboard"
HIDING = r'\[data-hide~="([^"]*)"\]'


def read(name: str) -> str:
    return (DASHBOARD / name).read_text(encoding="utf-8")


def views() -> st.SearchStrategy[View]:
    """Any view; axes come in the order of `LOG_AXES`."""
    return st.builds(
        View,
        tab=st.sampled_from(TABS),
        log=st.sets(st.sampled_from(LOG_AXES)).map(lambda log: tuple(name for name in LOG_AXES if name in log)),
        hide=st.frozensets(st.sampled_from(sorted(HIDEABLE))),
        autoplay=st.booleans(),
        level=st.sampled_from(LEVELS),
    )


@given(view=views())
def test_a_view_survives_its_link(view: View) -> None:
    assert view_from_query(view.to_query()) == (view, [])


def test_the_default_view_adds_nothing_to_the_link() -> None:
    assert View().to_query() == {}
    assert view_from_query({}) == (View(), [])


def test_a_link_can_ask_for_no_logarithmic_axis() -> None:
    assert View(log=()).to_query() == {"log": "none"}
    assert view_from_query({"log": "none"}) == (View(log=()), [])


@given(query=st.dictionaries(st.sampled_from(("tab", "log", "hide", "autoplay", "level", "x")), st.text(max_size=60)))
def test_any_query_gives_a_view_that_survives_its_link(query: dict[str, str]) -> None:
    view, _ = view_from_query(query)
    assert view_from_query(view.to_query()) == (view, [])


@pytest.mark.parametrize(
    ("key", "allowed"), [("tab", TABS), ("level", LEVELS)]
)  # fmt: skip
@pytest.mark.parametrize("value", ["", "nonsense", "WHY", "<script>alert(1)</script>", "x" * 10_000, "\x00", "🙂"])
def test_an_invalid_value_becomes_the_default_with_one_sentence_that_names_the_key(
    key: str, allowed: tuple[str, ...], value: str
) -> None:
    view, (notice,) = view_from_query({key: value})
    assert view == View()
    assert notice.startswith(f"{key} must be one of {', '.join(allowed)}, not ")
    assert notice.endswith(f"Using {allowed[0]}.")
    assert len(notice) < 300


def test_each_invalid_value_gets_its_own_sentence() -> None:
    view, notices = view_from_query({"tab": "x", "level": "y", "hide": "z"})
    assert view == View()
    assert [sum(word in notice for notice in notices) for word in ("tab must", "level must", "'z' to hide")] == [1] * 3


def test_unknown_parts_to_hide_get_a_sentence_and_known_ones_are_hidden() -> None:
    view, (notice,) = view_from_query({"hide": f"seed,{'rubbish' * 20},tiles,,more"})
    assert view.hide == {"seed", "tiles"}
    assert notice.startswith("There is nothing named 'rubbish")
    assert notice.endswith("to hide.")
    assert len(notice) < 100


@pytest.mark.parametrize("value", ["", "0", "true", "yes", "11"])
def test_a_run_starts_only_if_the_link_has_autoplay_1(value: str) -> None:
    assert not view_from_query({"autoplay": value})[0].autoplay
    assert view_from_query({"autoplay": "1"})[0].autoplay


def test_every_knob_and_every_part_can_be_hidden_under_its_own_name() -> None:
    assert set(HIDEABLE) == set(KNOBS) | set(PARTS)
    assert not set(KNOBS) & set(PARTS)
    assert all(HIDEABLE.values())
    assert not any("," in name for name in HIDEABLE)


def test_the_dashboard_has_every_tab_with_a_title_an_explanation_and_charts_that_exist() -> None:
    assert tuple(VIEWS) == TABS
    assert len({title for title, _ in VIEWS.values()}) == len(TABS)
    (table,) = re.findall(r"export const EXPLANATIONS = \{(.*?)\};", read("js/explanations.js"), re.DOTALL)
    assert set(re.findall(r"\w+", table)) == set(TABS)
    feedback = {f"feedback_{name}" for name in ("share", "grad_norm", "weight_change", "weight_distance")}
    assert {chart for _, charts in VIEWS.values() for chart in charts} <= {*PAGE_FIGURES, *feedback}


def test_every_axis_that_can_be_logarithmic_belongs_to_a_chart() -> None:
    assert set(LOG_AXES) <= set(PAGE_FIGURES)


def test_the_style_sheet_hides_each_part_of_the_dashboard_and_nothing_else() -> None:
    of_the_sidebar = {"presets", "mechanisms", "thresholds", "pages", "share"}
    assert set(re.findall(HIDING, read("dashboard.css"))) == set(PARTS) - of_the_sidebar


def test_whatever_the_style_sheet_hides_is_in_the_dashboard() -> None:
    page = read("dashboard.html")
    rule = read("dashboard.css").split("/* What a link hides. */")[1].split("{ display: none; }")[0]
    targets = re.sub(HIDING, "", rule)
    classes, commands = re.findall(r"\.(?!ecl)([a-z]+)", targets), re.findall(r'data-command="(\w+)"', targets)
    assert set(classes) == {"speed", "tiles", "tabs", "panels"}
    assert all(re.search(rf'class="{name}"', page) for name in classes)
    assert set(commands) == {"step", "reset", "freeze", "extend"}
    assert all(f'data-command="{name}"' in page for name in commands)
