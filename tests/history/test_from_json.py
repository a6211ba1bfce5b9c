"""Reading JSON: any text gives a run or one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim.config.limits import MOST_STEPS
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_json import LARGEST_TEXT, MOST_EVENTS
from tests.support.exported import SMALL, document, refuse_constant


def assert_sentence(error: pytest.ExceptionInfo[ValueError]) -> None:
    sentence = str(error.value)
    assert type(error.value) is ValueError
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 500


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
    "a later version": (json.dumps(document(version=5)), "version 5"),
    "a version that is a list": (json.dumps(document(version=[[1]])), "version a list"),
    "a version of true": (json.dumps(document(version=True)), "version True"),
    "an unknown part": (json.dumps(document(note="x" * 100)), "an unknown part: 'note'"),
    "no configuration": (json.dumps(document(configuration=[])), "configuration in this file"),
    "a missing knob": (without("configuration", "seed"), "lacks the knob seed"),
    "an unknown knob": (with_knob(magic=1), "no knob named 'magic'"),
    "a knob out of bounds": (with_knob(num_experts=65), "from 2 to 64, not '65'"),
    "a knob of another type": (with_knob(num_experts="2"), "from 2 to 64"),
    "a fractional knob": (with_knob(num_experts=2.5), "from 2 to 64"),
    "a list for a knob": (with_knob(seed=[[0]]), "'seed' is not a single value"),
    "a huge number for a knob": (with_knob(seed=10**4000), "Seed (seed) must be"),
    "knobs that conflict": (with_knob(top_k=3), "from 1 to 2"),
    "NaN for a knob": (with_knob(aux_loss_coef=float("nan")), "not valid JSON"),
    "events that are not a list": (json.dumps(document(events={})), "events"),
    "too many events": (json.dumps(document(events=[{}] * (MOST_EVENTS + 1))), "at most 1,000"),
    "an event without changes": (with_event(1, {}), "event 1"),
    "an event that is a number": (json.dumps(document(events=[7])), "event 1"),
    "an event after the end": (with_event(12, {"aux_loss_coef": 0.1}), "from 0 to 11"),
    "an event before the start": (with_event(-1, {"aux_loss_coef": 0.1}), "from 0 to 11"),
    "an event at a fractional step": (with_event(1.5, {"aux_loss_coef": 0.1}), "from 0 to 11"),
    "an event at step true": (with_event(True, {"aux_loss_coef": 0.1}), "from 0 to 11"),
    "an event with a structural knob": (with_event(1, {"seed": 1}), "'seed', which cannot change during a run"),
    "an event with an unknown knob": (with_event(1, {"=1+1": 1}), "'=1+1', which cannot change during a run"),
    "an invalid event": (with_event(1, {"top_k": 3}), "Event 1 in this file is not valid"),
    "an event with a list": (with_event(1, {"aux_loss_coef": [0.1]}), "not a single value"),
    "unordered events": (json.dumps(document(events=document()["events"][::-1])), "Event 2"),
    "a missing column": (without("history", "load"), "lacks the part load"),
    "a short column": (with_column("task_loss", lambda items: items[1:]), "must have 11 numbers"),
    "a long column": (with_column("task_loss", lambda items: [*items, 1]), "must have 11 numbers"),
    "a column that is a word": (with_column("task_loss", lambda _: "inf"), "must have 11 numbers"),
    "a short row": (with_column("load", first([1])), "11 rows of 2 numbers"),
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
    "a share above one": (with_column("load", first([1.1, 0])), "shares outside 0 to 1"),
    "a share below zero": (with_column("smoothed_load", first([-0.1, 1])), "shares outside 0 to 1"),
    "a fractional number of dead experts": (with_column("dead_experts", first(0.5)), "whole numbers from 0 to 2"),
    "more dead experts than there are": (with_column("dead_experts", first(3)), "whole numbers from 0 to 2"),
    "steps from zero": (with_column("step", lambda items: [item - 1 for item in items]), "1, 2, 3"),
    "steps that are not a list": (with_column("step", lambda _: 11), "must have 0 numbers"),
    "a fractional step": (with_column("step", first(1.5)), "1, 2, 3"),
    "a missing step": (with_column("step", first(None)), "not finite"),
    "too many steps": (with_column("step", lambda _: list(range(1, MOST_STEPS + 2))), "at most 100,000"),
    "a probe that is a list": (json.dumps(document(probe=[])), "probe"),
    "a probe after the end": (with_probe(step=12), "from 0 to 11"),
    "a probe at a fractional step": (with_probe(step=1.0), "from 0 to 11"),
    "a probe with too few tokens": (with_probe(expert=[0]), "expert in this file must have 400 numbers"),
    "an expert that does not exist": (with_probe(expert=[2] * 400), "from 0 to 1"),
    "a missing expert": (with_probe(expert=[None] * 400), "from 0 to 1"),
    "dropped as numbers": (with_probe(dropped=[0] * 400), "whether it was dropped"),
    "dropped as a string": (with_probe(dropped="x" * 400), "whether it was dropped"),
    "a table of the wrong shape": (with_probe(joint=[[0, 0]]), "joint in this file must have 12 rows of 2"),
    "a table with a gap": (with_probe(together=[[None, 0], [0, 0]]), "together"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_document_is_rejected_with_a_sentence(name: str) -> None:
    text, expected = BROKEN[name]
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is checked below
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
def test_documents_that_would_exhaust_memory_are_rejected_before_parsing(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "loads", refuse_constant)
    with pytest.raises(ValueError, match=expected) as error:
        run_from_json(text)
    assert_sentence(error)


def test_quoted_text_is_truncated_to_forty_characters() -> None:
    with pytest.raises(ValueError, match="no knob named") as error:
        run_from_json(with_knob(**{"x" * 10_000: 1}))
    assert "x" * 40 in str(error.value)
    assert "x" * 41 not in str(error.value)
    with pytest.raises(ValueError, match="an unknown part") as error:
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
def test_a_document_with_any_part_changed_gives_a_run_or_a_sentence(data: st.DataObject, value: Any, how: str) -> None:
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
def test_a_truncated_or_corrupted_document_gives_a_run_or_a_sentence(cut: int, junk: str) -> None:
    assert_run_or_sentence(SMALL[:cut])
    assert_run_or_sentence(SMALL[:cut] + junk + SMALL[cut:])
    assert_run_or_sentence(SMALL[:cut] + junk + SMALL[cut + len(junk) :])


@given(text=st.text(st.characters(exclude_categories=()), max_size=200), value=HOSTILE)
def test_arbitrary_text_and_json_give_a_sentence(text: str, value: Any) -> None:
    for anything in (text, json.dumps(value), json.dumps(document(history=value)), json.dumps(document(probe=[value]))):
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is checked below
            run_from_json(anything)
        assert_sentence(error)
