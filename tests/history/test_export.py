"""A run survives its own document to the last digit; a broken document gets a sentence; a page fetches nothing."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import Event, History, Probe, RunConfig, StepRecord, Trainer
from moe_sim.charts.html_page import run_to_html
from moe_sim.charts.overview import routing_map
from moe_sim.charts.page import page_figures
from moe_sim.charts.scene import Scene
from moe_sim.charts.slides import shown_figures, slide_figure, small_print
from moe_sim.cli.run import scene_of
from moe_sim.config.limits import MOST_STEPS
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_csv import frame_to_csv, run_to_csv
from moe_sim.history.to_json import COLUMNS, LARGEST_TEXT, MOST_EVENTS, run_to_json

RUNS: dict[str, tuple[dict[str, Any], int, dict[int, dict[str, Any]]]] = {
    "collapsing": ({}, 60, {}),
    "not begun": ({}, 0, {}),
    "moved": ({"seed": 7}, 25, {0: {"z_loss_coef": 0.1}, 10: {"aux_loss_coef": 0.1, "top_k": 2}, 25: {"frozen": True}}),
    "two choices": ({"num_experts": 5, "top_k": 2, "renormalize": True, "capacity_factor": 0.25}, 12, {}),
    "text": ({"task": "text", "num_experts": 3}, 11, {5: {"domain_mix": "code"}}),
    "expert choice": ({"balancing": "expert_choice", "router_noise": "learned"}, 12, {}),
    "diverging": ({"learning_rate": 1000.0, "num_experts": 4}, 50, {}),
    "many experts": ({"num_experts": 64, "top_k": 8}, 10, {4: {"capacity_factor": 1.0}}),
}


def train(changes: dict[str, Any], steps: int, moves: dict[int, dict[str, Any]]) -> Trainer:
    trainer = Trainer(RunConfig(**changes))
    for done in range(steps):
        trainer.update(**moves.get(done, {}))
        trainer.step()
    trainer.update(**moves.get(steps, {}))
    return trainer


@pytest.fixture(scope="module", params=RUNS)
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return train(*RUNS[request.param])


def document(**changes: Any) -> dict[str, Any]:
    """A small good document, some of its parts replaced."""
    return {**json.loads(SMALL), **changes}


def refuse_constant(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def make_small() -> str:
    trainer = train({"num_experts": 2}, 11, {4: {"aux_loss_coef": 0.1}, 7: {"top_k": 2, "capacity_factor": 1.0}})
    return run_to_json(trainer.history, trainer.probe())


SMALL = make_small()


def assert_same_probe(one: Probe, other: Probe) -> None:
    assert one.step == other.step
    for name in ("expert", "dropped", "joint", "together"):
        mine, yours = getattr(one, name), getattr(other, name)
        assert mine.dtype == yours.dtype
        np.testing.assert_array_equal(mine, yours)


def assert_sentence(error: pytest.ExceptionInfo[ValueError]) -> None:
    sentence = str(error.value)
    assert type(error.value) is ValueError
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 500


def test_a_run_comes_back_equal_to_the_last_digit(trainer: Trainer) -> None:
    probe = trainer.probe()
    text = run_to_json(trainer.history, probe)
    history, again = run_from_json(text)
    assert history.initial_config == trainer.history.initial_config
    assert history.events == trainer.history.events
    assert history.config_at(len(history) + 1) == trainer.config
    for name in COLUMNS:
        mine, yours = history.column(name), trainer.history.column(name)
        assert mine.shape == yours.shape
        assert mine.tobytes() == yours.tobytes(), name
    assert again is not None
    assert_same_probe(again, probe)
    assert run_to_json(history, again) == text


def test_a_document_is_strict_json_in_plain_letters(trainer: Trainer) -> None:
    text = run_to_json(trainer.history, trainer.probe())
    assert text.isascii()
    assert list(json.loads(text, parse_constant=refuse_constant)["history"]) == list(COLUMNS)


def test_the_whole_screen_can_be_drawn_again(trainer: Trainer) -> None:
    before = scene_of(trainer)
    history, probe = run_from_json(run_to_json(before.history, before.probe))
    assert probe is not None
    task = Trainer(history.initial_config).task
    after = Scene(history, history.config_at(len(history) + 1), probe, task)
    drawn = {name: figure.to_json() for name, figure in page_figures(after, "light").items()}
    assert drawn == {name: figure.to_json() for name, figure in page_figures(before, "light").items()}


def test_infinity_and_nan_are_kept_apart(make_record: Callable[..., StepRecord]) -> None:
    history = History(RunConfig(num_experts=2))
    for step, number in enumerate((np.inf, -np.inf, np.nan, -0.0, 5e-324, 1.7976931348623157e308), start=1):
        history.append(make_record(step, [1.0, 0.0], z_loss=number))
    document = json.loads(run_to_json(history), parse_constant=refuse_constant)
    assert document["history"]["z_loss"] == ["inf", "-inf", None, -0.0, 5e-324, 1.7976931348623157e308]
    again, probe = run_from_json(json.dumps(document))
    assert probe is None
    assert again.column("z_loss").tobytes() == history.column("z_loss").tobytes()
    assert np.isinf(again.column("imbalance_ratio")).all()


@given(numbers=st.lists(st.floats(), max_size=40))
def test_any_number_comes_back(numbers: list[float]) -> None:
    columns = document()["history"]
    history, _ = run_from_json(SMALL)
    copy = History(history.initial_config)
    for step, number in enumerate(numbers, start=1):
        row = {name: history.column(name)[0] for name in columns}
        copy.append(StepRecord(**{**row, "step": step, "z_loss": number, "router_logit_max": -number}))
    again, _ = run_from_json(run_to_json(copy))
    np.testing.assert_array_equal(again.column("z_loss"), copy.column("z_loss"))
    np.testing.assert_array_equal(again.column("router_logit_max"), copy.column("router_logit_max"))


def test_a_run_that_goes_on_while_it_is_written_has_no_half_rows(make_record: Callable[..., StepRecord]) -> None:
    class Growing(History):
        def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
            if len(self) < 40:
                self.append(make_record(len(self) + 1, [0.5, 0.5]))
            return super().column(name, start, stop)

    history = Growing(RunConfig(num_experts=2))
    history.append(make_record(1, [0.5, 0.5]))
    again, _ = run_from_json(run_to_json(history))
    assert len(again) == 1


def with_column(name: str, change: Callable[[list[Any]], Any]) -> str:
    good = document()
    return json.dumps(document(history={**good["history"], name: change(good["history"][name])}))


def with_knob(**changes: Any) -> str:
    return json.dumps(document(configuration={**document()["configuration"], **changes}))


def with_event(step: Any, changes: Any) -> str:
    return json.dumps(document(events=[{"step": step, "changes": changes}]))


def with_probe(**changes: Any) -> str:
    return json.dumps(document(probe={**document()["probe"], **changes}))


def without(part: str, key: str) -> str:
    good = document()
    del good[part][key]
    return json.dumps(good)


def first(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda items: [value, *items[1:]]


BROKEN = {
    "nothing": ("", "not valid JSON"),
    "cut off": (SMALL[:-1], "not valid JSON"),
    "a byte order mark": ("\ufeff" + SMALL, "not valid JSON"),
    "half a letter": ("\ud800", "not valid JSON"),
    "a foreign list": ("[1, 2]", "not a run that was saved here"),
    "a foreign object": ('{"format": "vega-lite"}', "not a run that was saved here"),
    "a number": ("1e999", "not a run that was saved here"),
    "a later version": (json.dumps(document(version=2)), "version 2"),
    "a version that is a list": (json.dumps(document(version=[[1]])), "version a list"),
    "a version that is true": (json.dumps(document(version=True)), "version True"),
    "a part too many": (json.dumps(document(note="x" * 100)), "a part that no run has: 'note'"),
    "no configuration": (json.dumps(document(configuration=[])), "configuration in this file"),
    "a knob too few": (without("configuration", "seed"), "lacks the knob seed"),
    "a knob too many": (with_knob(magic=1), "no knob named 'magic'"),
    "a knob out of bounds": (with_knob(num_experts=65), "from 2 to 64, not '65'"),
    "a knob of another kind": (with_knob(num_experts="2"), "from 2 to 64"),
    "a knob that is half": (with_knob(num_experts=2.5), "from 2 to 64"),
    "a knob with a list": (with_knob(seed=[[0]]), "'seed' is not a single value"),
    "a knob with a huge number": (with_knob(seed=10**4000), "Seed (seed) must be"),
    "knobs that do not go together": (with_knob(top_k=3), "from 1 to 2"),
    "NaN for a knob": (with_knob(aux_loss_coef=float("nan")), "not valid JSON"),
    "events that are no list": (json.dumps(document(events={})), "events"),
    "too many events": (json.dumps(document(events=[{}] * (MOST_EVENTS + 1))), "at most 1,000"),
    "an event without changes": (with_event(1, {}), "event 1"),
    "an event that is a number": (json.dumps(document(events=[7])), "event 1"),
    "an event after the end": (with_event(12, {"aux_loss_coef": 0.1}), "from 0 to 11"),
    "an event before the start": (with_event(-1, {"aux_loss_coef": 0.1}), "from 0 to 11"),
    "an event at half a step": (with_event(1.5, {"aux_loss_coef": 0.1}), "from 0 to 11"),
    "an event at true": (with_event(True, {"aux_loss_coef": 0.1}), "from 0 to 11"),
    "an event that restarts": (with_event(1, {"seed": 1}), "'seed', which no running run can move"),
    "an event of no knob": (with_event(1, {"=1+1": 1}), "'=1+1', which no running run can move"),
    "an impossible event": (with_event(1, {"top_k": 3}), "Event 1 in this file is not valid"),
    "an event with a list": (with_event(1, {"aux_loss_coef": [0.1]}), "not a single value"),
    "events in disorder": (json.dumps(document(events=document()["events"][::-1])), "Event 2"),
    "a column too few": (without("history", "load"), "lacks the part load"),
    "a column that is short": (with_column("task_loss", lambda items: items[1:]), "must have 11 numbers"),
    "a column that is long": (with_column("task_loss", lambda items: [*items, 1]), "must have 11 numbers"),
    "a column that is a word": (with_column("task_loss", lambda _: "inf"), "must have 11 numbers"),
    "a row that is short": (with_column("load", first([1])), "11 rows of 2 numbers"),
    "a row that is a number": (with_column("load", first(1)), "11 rows of 2 numbers"),
    "rows that are flat": (with_column("load", lambda _: [0.5] * 11), "11 rows of 2 numbers"),
    "rows in rows": (with_column("load", first([[0.5], 0.5])), "not numbers"),
    "a word among numbers": (with_column("task_loss", first("1.0")), "not numbers"),
    "true among numbers": (with_column("task_loss", first(True)), "not numbers"),
    "NaN as a word": (with_column("z_loss", first("nan")), "not numbers"),
    "NaN as a token": (with_column("z_loss", first(float("nan"))), "not valid JSON"),
    "Infinity as a token": (with_column("z_loss", first(float("inf"))), "not valid JSON"),
    "no task loss": (with_column("task_loss", first(None)), "task_loss in this file has values that are not finite"),
    "an infinite load": (with_column("load", first(["inf", 0])), "load in this file has values that are not finite"),
    "a loss that overflows": (SMALL.replace('"task_loss":[', '"task_loss":[1e999,', 1), "must have 11 numbers"),
    "a number too large": (with_column("task_loss", first(10**400)), "too large"),
    "a number with too many digits": (
        SMALL.replace('"z_loss":[', '"z_loss":[' + "9" * 5000 + ",", 1),
        "not valid JSON",
    ),
    "a share above one": (with_column("load", first([1.1, 0])), "shares that are not from 0 to 1"),
    "a share below zero": (with_column("smoothed_load", first([-0.1, 1])), "shares that are not from 0 to 1"),
    "half a dead expert": (with_column("dead_experts", first(0.5)), "whole numbers from 0 to 2"),
    "more dead than alive": (with_column("dead_experts", first(3)), "whole numbers from 0 to 2"),
    "steps from zero": (with_column("step", lambda items: [item - 1 for item in items]), "1, 2, 3"),
    "steps that are no list": (with_column("step", lambda _: 11), "must have 0 numbers"),
    "a step that is half": (with_column("step", first(1.5)), "1, 2, 3"),
    "a step that is unknown": (with_column("step", first(None)), "not finite"),
    "too many steps": (with_column("step", lambda _: list(range(1, MOST_STEPS + 2))), "at most 100,000"),
    "a probe that is a list": (json.dumps(document(probe=[])), "probe"),
    "a probe of the future": (with_probe(step=12), "from 0 to 11"),
    "a probe of half a step": (with_probe(step=1.0), "from 0 to 11"),
    "a probe of too few tokens": (with_probe(expert=[0]), "expert in this file must have 400 numbers"),
    "an expert that is not there": (with_probe(expert=[2] * 400), "from 0 to 1"),
    "an expert that is unknown": (with_probe(expert=[None] * 400), "from 0 to 1"),
    "dropped by number": (with_probe(dropped=[0] * 400), "whether it was dropped"),
    "dropped in a word": (with_probe(dropped="x" * 400), "whether it was dropped"),
    "a table of the wrong shape": (with_probe(joint=[[0, 0]]), "joint in this file must have 12 rows of 2"),
    "a table with a hole": (with_probe(together=[[None, 0], [0, 0]]), "together"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_document_is_refused_with_a_sentence(name: str) -> None:
    text, expected = BROKEN[name]
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is looked at below
        run_from_json(text)
    assert_sentence(error)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 9 + "]" * 9, "nested too deeply"),
        ("[" + "[]," * 2_100_000 + "0]", "too many parts"),
        ("[" + '"",' * 2_100_000 + "0]", "too many parts"),
        (" " * (LARGEST_TEXT + 1), "at most 40 MB"),
    ],
    ids=["lists", "objects", "nine", "many lists", "many words", "long"],
)
def test_what_would_eat_the_machine_is_refused_before_it_is_read(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "loads", refuse_constant)
    with pytest.raises(ValueError, match=expected) as error:
        run_from_json(text)
    assert_sentence(error)


def test_quoted_text_is_cut_to_forty_characters() -> None:
    with pytest.raises(ValueError, match="no knob named") as error:
        run_from_json(with_knob(**{"x" * 10_000: 1}))
    assert "x" * 40 in str(error.value)
    assert "x" * 41 not in str(error.value)
    with pytest.raises(ValueError, match="a part that no run has") as error:
        run_from_json(json.dumps(document(**{"y" * 10_000: 1})))
    assert "y" * 41 not in str(error.value)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([10**400, -1, 2**63, "inf", "nan", "=1+1", "<script>", [], {}, 1e308]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def assert_run_or_sentence(text: str) -> None:
    try:
        history, _ = run_from_json(text)
    except ValueError as caught:
        error = caught
        assert type(error) is ValueError
        assert len(str(error)) < 500
        assert str(error).endswith(".")
        assert "\n" not in str(error)
    else:
        assert len(history) <= MOST_STEPS


@given(data=st.data(), value=HOSTILE, how=st.sampled_from(["replace", "delete", "double"]))
def test_a_document_with_any_part_broken_gives_a_run_or_a_sentence(data: st.DataObject, value: Any, how: str) -> None:
    whole: Any = json.loads(SMALL)
    part = whole
    for _ in range(data.draw(st.integers(0, 3), label="depth")):
        keys = list(part) if isinstance(part, dict) else range(len(part))
        inner = [key for key in keys if isinstance(part[key], dict | list) and part[key]]
        if not inner:
            break
        part = part[data.draw(st.sampled_from(inner), label="way")]
    key = data.draw(st.sampled_from(list(part) if isinstance(part, dict) else range(len(part))), label="key")
    if how == "replace":
        part[key] = value
    elif how == "delete":
        del part[key]
    elif isinstance(part, list):
        part.append(part[key])
    assert_run_or_sentence(json.dumps(whole))


@given(cut=st.integers(0, len(SMALL)), junk=st.text(max_size=10))
def test_a_document_that_is_cut_or_spoiled_gives_a_sentence(cut: int, junk: str) -> None:
    assert_run_or_sentence(SMALL[:cut])
    assert_run_or_sentence(SMALL[:cut] + junk + SMALL[cut:])
    assert_run_or_sentence(SMALL[:cut] + junk + SMALL[cut + len(junk) :])


@given(text=st.text(st.characters(exclude_categories=()), max_size=200), value=HOSTILE)
def test_any_text_and_any_json_gives_a_sentence(text: str, value: Any) -> None:
    for anything in (text, json.dumps(value), json.dumps(document(history=value)), json.dumps(document(probe=[value]))):
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is looked at below
            run_from_json(anything)
        assert_sentence(error)


# Tables


def test_a_table_has_every_number_in_full(trainer: Trainer) -> None:
    frame = trainer.history.to_frame()
    names, *rows = csv.reader(io.StringIO(run_to_csv(trainer.history), newline=""))
    assert names == list(frame.columns)
    assert len(rows) == len(frame)
    for name, cells in zip(names, zip(*rows, strict=True), strict=False):
        if frame[name].dtype.kind in "iuf":
            numbers = [float(cell) if cell else np.nan for cell in cells]
            np.testing.assert_array_equal(numbers, frame[name], err_msg=name)
        else:
            assert list(cells) == frame[name].astype(str).tolist(), name


def test_texts_that_a_spreadsheet_would_compute_get_an_apostrophe_and_numbers_do_not() -> None:
    words = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "harmless", "a=b", ""]
    frame = pd.DataFrame({"=cmd": words, "number": [-1.5, *range(8)], "mixed": [-1, "-1", None, True, *"abcde"]})
    rows = list(csv.reader(io.StringIO(frame_to_csv(frame), newline="")))
    assert rows[0] == ["'=cmd", "number", "mixed"]
    assert [row[0] for row in rows[1:]] == [f"'{word}" for word in words[:6]] + words[6:]
    assert [row[1] for row in rows[1:3]] == ["-1.5", "0.0"]
    assert [row[2] for row in rows[1:5]] == ["-1", "'-1", "", "True"]
    assert list(frame.columns) == ["=cmd", "number", "mixed"]
    assert frame["=cmd"].tolist() == words


# Pages


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


@pytest.fixture(scope="module")
def moved() -> Scene:
    return scene_of(train({"seed": 3, "num_experts": 4}, 40, {20: {"aux_loss_coef": 0.1, "capacity_factor": 1.0}}))


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
    assert text.count("num_experts=4 · seed=3 · moved 20:aux_loss_coef=0.1;20:capacity_factor=1 · step 40") == len(
        shown_figures(moved)
    )
    rows = page[page.index("<h2>Configuration</h2>") :].split("<tr")[2:]
    assert ["class=changed" in row for row in rows] == [True] * 2 + [False] * (len(rows) - 2)
    marks = page.count(json.dumps("α 0 → 0.1, capacity off → 1")[1:-1]) + page.count("α 0 → 0.1, capacity off → 1")
    assert marks == sum(bool(figure.layout.meta["time"]) for figure in shown_figures(moved).values())


def test_figures_that_mean_nothing_under_these_knobs_are_left_out(moved: Scene) -> None:
    assert "selection_bias" not in shown_figures(moved)
    assert "selection_bias" in shown_figures(scene_of(train({"balancing": "bias"}, 3, {})))
    assert next(iter(shown_figures(moved))) == "routing_map"


# Slides


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
    assert len({mark.yshift for mark in marks}) == 3
    assert [mark.xanchor for mark in marks] == ["left", "left", "right"]


def test_lines_of_experts_are_named_on_a_slide_and_the_map_is_not_crowded(moved: Scene) -> None:
    figures = shown_figures(moved)
    assert slide_figure(figures["utilization_over_time"], moved).layout.showlegend
    assert not slide_figure(figures["imbalance"], moved).layout.showlegend
    assert slide_figure(routing_map(moved), moved).data[0].marker.size > routing_map(moved).data[0].marker.size
