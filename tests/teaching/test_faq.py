"""The FAQ: complete for every level, with numbers from the project's own tables."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from moe_sim.teaching.faq import FAQ, Entry
from moe_sim.teaching.level import LEVELS
from moe_sim.teaching.quiz.catalogue import QUESTIONS
from moe_sim.teaching.quiz.question import Sheet
from moe_sim.teaching.terms.catalogue import TERMS, by_name
from moe_sim.teaching.terms.occurrences import find

README = (Path(__file__).parents[2] / "moe_sim" / "README.md").read_text(encoding="utf-8")
NOT_MEASURED = {"0.462", "0.251", "0.003", "0.005"}
"""Numbers with three decimals that a text computes or sets. The tests of the quiz compute the first two."""

each_entry = pytest.mark.parametrize("entry", FAQ, ids=lambda entry: entry.key)


def fixed_texts() -> list[str]:
    sheets = [question.sheet for question in QUESTIONS if isinstance(question.sheet, Sheet)]
    options = [option for sheet in sheets for option in (sheet.right, *sheet.wrong)]
    return [sheet.text for sheet in sheets] + [f"{option.text} {option.explanation}" for option in options]


def test_keys_and_questions_are_unique() -> None:
    assert len({entry.key for entry in FAQ}) == len({entry.question for entry in FAQ}) == len(FAQ) >= 11


@each_entry
def test_every_reader_gets_an_answer(entry: Entry) -> None:
    assert tuple(entry.answers) == LEVELS
    assert entry.question.endswith("?")
    assert all(answer.strip().endswith(".") for answer in entry.answers.values())


@each_entry
def test_beginners_get_the_shortest_answer_and_experts_a_deep_one(entry: Entry) -> None:
    beginner, practitioner, expert = (len(entry.answers[level]) for level in LEVELS)
    assert beginner < min(practitioner, expert)
    assert beginner <= 220


@each_entry
def test_answers_have_no_exclamation_marks_and_no_bad_spacing(entry: Entry) -> None:
    text = "\n".join(entry.answers.values())
    assert "!" not in text
    assert not re.search(r"\d %|\d%|  ", text)


@each_entry
def test_an_entry_links_to_terms_and_uses_some(entry: Entry) -> None:
    assert entry.terms
    assert all(by_name(name) for name in entry.terms)
    assert find(f"{entry.question} {entry.answers['beginner']}", "beginner")


def test_every_measured_number_is_in_the_readme() -> None:
    texts = [answer for entry in FAQ for answer in entry.answers.values()]
    texts += [text for term in TERMS for text in (term.short, *term.deep.values())] + fixed_texts()
    quoted = {number for text in texts for number in re.findall(r"(?<![\d.])\d\.\d{3}(?!\d)", text)}
    assert len(quoted) > 10
    assert quoted - NOT_MEASURED <= set(re.findall(r"\d\.\d{3}", README))


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("| 0.01 |", ("1.1 ± 0.8", "2.244")),
        ("| 0.03 |", ("0.2 ± 0.4", "2.214")),
        ("| 0.1 |", ("0.18", "0.0 ± 0.0", "2.281", "0.70")),
        ("| 10 |", ("0.13", "2.541", "0.31")),
        ("| importance loss, α = 0.1", ("0.20", "2.210")),
        ("| selection bias, rate 0.01", ("0.13", "0.14", "2.284")),
        ("| selection bias, rate 0.001", ("0.25", "2.584")),
        ("| expert choice", ("22 ± 7", "0.34", "2.293", "2.371")),
        ("| Sinkhorn", ("0.19", "0.28", "2.212", "2.275")),
        ("| Gaussian noise alone, σ = 1/8", ("1.00",)),
        ("| Gaussian noise alone, σ = 1 ", ("1.00",)),
        ("| learned noise alone", ("1.00", "6.9")),
        ("| jitter alone", ("0.98",)),
        ("| capacity factor 1 alone |", ("0.50", "67", "2.594")),
        ("| capacity factor 1 alone, reroute", ("0.31",)),
        ("| none | 25", ("0.94",)),
        ("| no shared direction", ("0.26",)),
        ("| router blind", ("0.21",)),
        ("| experts frozen", ("0.72",)),
        ("| 0.1 | 19-36", ("20-27",)),
        ("| 0.03 | 36-140", ("21-32",)),
    ],
)
def test_the_tables_contain_the_numbers_that_the_answers_quote(row: str, numbers: tuple[str, ...]) -> None:
    lines = [line for line in README.splitlines() if line.startswith(row)]
    assert any(all(number in line for number in numbers) for line in lines)


@pytest.mark.parametrize("seed", range(5))
def test_the_load_balancing_loss_is_one_plus_e_times_the_sum_of_joint_deviations(seed: int) -> None:
    load, importance = np.random.default_rng(seed).dirichlet(np.ones(8), size=2)
    together = 1 + 8 * np.sum((load - 1 / 8) * (importance - 1 / 8))
    assert 8 * load @ importance == pytest.approx(together)
