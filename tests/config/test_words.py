"""Values as words: short names tell apart what the long ones do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim.config.words import percent, plural, power_of_ten, short_names, value_in_words

words = st.text("ab0", max_size=2)
dotted = st.lists(words, min_size=1, max_size=5).map(".".join)


@given(st.lists(dotted, min_size=2, max_size=6, unique=True))
def test_distinct_names_stay_distinct_and_lose_only_whole_words_at_their_ends(names: list[str]) -> None:
    short = short_names(names)
    assert len(set(short)) == len(names)
    for name, one in zip(names, short, strict=True):
        assert f".{one}." in f".{name}."


@given(st.lists(dotted.filter(bool), min_size=2, max_size=6))
def test_no_name_becomes_empty(names: list[str]) -> None:
    assert all(short_names(names))


@given(dotted, dotted, st.lists(st.integers(0, 99), min_size=2, max_size=9, unique=True))
def test_what_all_names_begin_and_end_with_is_cut_down_to_one_word(begin: str, end: str, numbers: list[int]) -> None:
    last = begin.split(".")[-1]
    assert short_names([f"{begin}.{number}.{end}" for number in numbers]) == [f"{last}.{one}" for one in numbers]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["model.layers.3.mlp", "model.layers.11.mlp"], ["layers.3", "layers.11"]),
        (["encoder.0.ffn", "decoder.0.ffn"], ["encoder", "decoder"]),
        (["a.moe", "a.deep.moe"], ["a", "a.deep"]),
        (["block.mlp", "mlp"], ["block.mlp", "mlp"]),
        (["same", "same"], ["same", "same"]),
        (["x"], ["x"]),
        (["a" * 24], ["a" * 24]),
        (["b" * 2 + "a" * 23], ["…" + "a" * 23]),
        ([], []),
    ],
)
def test_short_names_of_a_few_models(names: list[str], short: list[str]) -> None:
    assert short_names(names) == short


def test_a_power_of_ten_is_a_short_tick() -> None:
    assert [power_of_ten(exponent) for exponent in (0, 1, 2, 3, 5, 6, 8, 9, 12)] == [
        "1", "10", "100", "1k", "100k", "1M", "100M", "1G", "1T",
    ]  # fmt: skip
    assert power_of_ten(17) == "100000T"


def test_numbers_and_values_are_written_alike_everywhere() -> None:
    assert percent(0.254) == "25\u00a0%"
    assert percent(float("nan")) == percent(float("inf")) == "–"
    assert [plural(count, "layer") for count in (0, 1, 2, 1_000)] == ["0 layers", "1 layer", "2 layers", "1,000 layers"]
    assert [value_in_words(value) for value in (1024, True, None, "expert_choice", 0.5)] == [
        "1,024", "on", "off", "expert choice", "0.5",
    ]  # fmt: skip
