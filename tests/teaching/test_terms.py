"""The glossary: complete for every level, consistent, and its terms found in texts."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_sim.config.knobs import KNOBS, Knob
from moe_sim.teaching.level import LEVELS, Level
from moe_sim.teaching.other_names import KNOB_NAMES, METRICS
from moe_sim.teaching.terms.catalogue import TERMS, by_name
from moe_sim.teaching.terms.occurrences import find
from moe_sim.teaching.terms.term import Term, is_symbol, other_names

each_term = pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
NAMES = [name for term in TERMS for name in term.names]
FILLERS = (
    "the",
    "loads of",
    "x",
    "reload",
    "k-means",
    "subtoken",
    "f-stop",
    "P2",
    "Expertise",
    "…",
    ",",
    "(",
    ")",
    ".",
)


def plain(name: str) -> str:
    """A name normalized for comparison: words in lower case with spaces, symbols unchanged."""
    return name if is_symbol(name) else re.sub(r"[\s-]", " ", name.lower())


def found(text: str, level: Level = "beginner") -> list[tuple[str, str]]:
    """The underlined parts of a text, each with its term."""
    return [(text[start:end], term.name) for start, end, term in find(text, level)]


def is_word(text: str, start: int, end: int) -> bool:
    """Whether neither side continues with a word character, or with a hyphen and a word character."""
    before, after = text[:start], text[end:]
    return not re.search(r"[\w-]$", before) and not re.match(r"\w|-\w", after)


def longest_name_at(text: str, start: int) -> tuple[int, Term] | None:
    """The end and the term of the longest name that starts here, found by trying every name with every ending."""
    matches = []
    for term in TERMS:
        for name in term.names:
            for ending in ("",) if is_symbol(name) else ("", "s", "es"):
                end = start + len(name + ending)
                if plain(text[start:end]) == plain(name + ending) and is_word(text, start, end):
                    matches.append((len(name), end, term))
    return max(matches, key=lambda match: match[:2])[1:] if matches else None


def first_occurrences(text: str, level: Level) -> list[tuple[int, int, str]]:
    """`find` by brute force: every name at every position."""
    result, seen, position = [], set(), 0
    while position < len(text):
        match = longest_name_at(text, position)
        if match is None:
            position += 1
            continue
        end, term = match
        if term.name not in seen and LEVELS.index(level) <= LEVELS.index(term.level):
            result.append((position, end, term.name))
        seen.add(term.name)
        position = end
    return result


texts = st.lists(st.sampled_from([*NAMES, *FILLERS]), max_size=12).flatmap(
    lambda words: st.lists(st.sampled_from([" ", " ", ", ", "-", "\u00a0", "s ", ""]), min_size=12, max_size=12).map(
        lambda gaps: "".join(word + gap for word, gap in zip(words, gaps, strict=False))
    )
)


def test_there_are_terms_for_every_level() -> None:
    assert len(TERMS) >= 50
    assert all(count >= 10 for count in Counter(term.level for term in TERMS).values())
    assert {term.level for term in TERMS} == set(LEVELS)


@each_term
def test_a_term_has_a_text_for_every_reader(term: Term) -> None:
    assert tuple(term.deep) == LEVELS
    assert all(len(text) > 20 for text in term.deep.values())
    assert len(set(term.deep.values())) == len(LEVELS)


@each_term
def test_the_short_text_is_one_sentence(term: Term) -> None:
    assert term.short.endswith(".")
    assert not re.search(r"[.?] [A-Z]", term.short)


@each_term
def test_texts_have_no_exclamation_marks_and_no_bad_spacing(term: Term) -> None:
    text = "\n".join([term.short, *term.deep.values(), term.formula, term.elsewhere])
    assert "!" not in text
    assert not re.search(r"\d %|\d%|  ", text)


@each_term
def test_related_terms_exist_and_are_different_terms(term: Term) -> None:
    assert term.see
    assert term.name not in term.see
    assert all(by_name(name).name == name for name in term.see)


def test_no_two_terms_share_a_name() -> None:
    assert [name for name, count in Counter(map(plain, NAMES)).items() if count > 1] == []


def test_terms_are_hashable_and_distinct() -> None:
    assert len(set(TERMS)) == len(TERMS)


def test_every_name_in_other_tools_appears_in_some_term() -> None:
    elsewhere = " ".join(term.elsewhere for term in TERMS)
    assert all(names in elsewhere for _, names in KNOB_NAMES)
    assert all(metric.elsewhere in elsewhere for metric in METRICS if metric.name != "min / mean")


def test_an_unknown_entry_of_other_names_raises_a_key_error() -> None:
    with pytest.raises(KeyError, match="mood"):
        other_names("mood")


@pytest.mark.parametrize("knob", KNOBS.values(), ids=lambda knob: knob.name)
def test_every_knob_is_explained_by_some_term(knob: Knob) -> None:
    if knob.name not in ("task", "expert_hidden_size"):
        assert find(f"{knob.label}. {knob.help}", "beginner")


@given(text=texts, level=st.sampled_from(LEVELS))
def test_find_agrees_with_a_brute_force_search(text: str, level: Level) -> None:
    assert [(start, end, term.name) for start, end, term in find(text, level)] == first_occurrences(text, level)


@given(text=st.one_of(texts, st.text(max_size=200)), level=st.sampled_from(LEVELS))
def test_occurrences_are_whole_words_without_overlaps_once_per_term(text: str, level: Level) -> None:
    spans = find(text, level)
    edges = [edge for start, end, _ in spans for edge in (start, end)]
    assert edges == sorted(edges)
    assert all(0 <= start < end <= len(text) and is_word(text, start, end) for start, end, _ in spans)
    assert len({term.name for _, _, term in spans}) == len(spans)


@given(text=texts)
def test_a_more_experienced_reader_sees_a_subset_of_what_a_beginner_sees(text: str) -> None:
    beginner, practitioner, expert = ({span[:2] for span in find(text, level)} for level in LEVELS)
    assert expert <= practitioner <= beginner


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found_alone_and_only_the_first_time(name: str) -> None:
    text = f"… {name}, and {name} again."
    [(start, end, term)] = find(text, "beginner")
    assert (start, end) == (2, 2 + len(name))
    assert name in term.names


def test_the_longest_name_wins_and_hides_the_shorter_one() -> None:
    assert found("The load-balancing loss is not the load.") == [
        ("load-balancing loss", "load-balancing loss"),
        ("load", "load"),
    ]


def test_words_match_in_any_case_with_plurals_and_with_spaces_for_hyphens() -> None:
    assert found("Dead Experts, MIXTURE OF EXPERTS, Top 2, losses") == [
        ("Dead Experts", "dead expert"),
        ("MIXTURE OF EXPERTS", "Mixture-of-Experts"),
        ("Top 2", "top-k"),
    ]


def test_symbols_match_in_their_own_case_only() -> None:
    assert found("f is not F") == [("f", "load")]
    assert found("F Α") == []
    assert found("P and p") == [("P", "importance"), ("p", "softmax")]


@pytest.mark.parametrize("text", ["reload", "loader", "f-number", "half-dead", "x_f", "P3", "expertise", "k-means"])
def test_nothing_is_found_inside_a_word(text: str) -> None:
    assert found(text) == []


def test_a_text_for_experts_underlines_only_expert_terms() -> None:
    text = "The router's load and its co-activation"
    assert [name for _, name in found(text, "expert")] == ["co-activation"]
    assert [name for _, name in found(text, "beginner")] == ["router", "load", "co-activation"]
