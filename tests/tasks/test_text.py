"""The text task: real text from CPython, cut into windows, with passages held out."""

from __future__ import annotations

import re
import unicodedata
from pydoc_data import topics as pydoc_topics

import numpy as np
import pytest
import torch

from moe_sim import KNOBS, RunConfig
from moe_sim.tasks.corpora import ALPHABET, DOMAINS, HELD_OUT_CHARACTERS, MIXES
from moe_sim.tasks.task import Batch, generators
from moe_sim.tasks.text import CONTEXT, PASSAGE, Text

PROSE, CODE, NAMES, ARITHMETIC = range(4)
USUAL = torch.tensor([0.4, 0.3, 0.2, 0.1])


@pytest.fixture(scope="module")
def text() -> Text:
    random = generators(0)
    return Text(RunConfig(task="text"), random["task"], random["held_out"])


@pytest.fixture(scope="module")
def batch(text: Text) -> Batch:
    return text.batch(20_000, USUAL, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def prose() -> str:
    """The English corpus, rebuilt here: all topics by name, each paragraph once, without characters outside the
    alphabet."""
    paragraphs = []
    for paragraph in "\n\n".join(text for _, text in sorted(pydoc_topics.topics.items())).split("\n\n"):
        if paragraph not in paragraphs:
            paragraphs.append(paragraph)
    return re.sub(r"[^\n -~]", "", "\n".join(paragraphs))


def windows(batch: Batch, domain: int) -> list[str]:
    """The context and the next character of each token of a domain, as strings."""
    chosen = batch.groups == domain
    rows = torch.cat([batch.inputs[chosen], batch.labels[chosen, None]], dim=1).tolist()
    return ["".join(ALPHABET[index] for index in row) for row in rows]


def test_the_alphabet_is_the_newline_and_printable_ascii() -> None:
    assert len(ALPHABET) == 96
    assert ALPHABET[0] == "\n"
    assert all(character.isascii() and character.isprintable() for character in ALPHABET[1:])


def test_a_token_is_eight_characters_and_its_label_the_next(text: Text, batch: Batch) -> None:
    assert batch.inputs.shape == (20_000, CONTEXT) == (20_000, 8)
    assert batch.labels.shape == (20_000,)
    assert batch.inputs.dtype == batch.labels.dtype == torch.int64
    assert min(batch.inputs.min(), batch.labels.min()) >= 0
    assert max(batch.inputs.max(), batch.labels.max()) < text.classes == len(ALPHABET)


def test_windows_of_prose_come_from_the_training_part(batch: Batch, prose: str) -> None:
    # If the held-out characters (0.6 % of the corpus) were drawn too, about 45 of these 8000 windows would be theirs.
    training_part = prose[:-HELD_OUT_CHARACTERS]
    found = [window in training_part for window in set(windows(batch, PROSE))]
    assert len(found) > 5000
    assert all(found)


def test_windows_of_code_and_arithmetic_look_like_code_and_arithmetic(batch: Batch) -> None:
    assert all(re.fullmatch(r"[0-9*+=;\n]{9}", window) for window in windows(batch, ARITHMETIC))
    code = "".join(windows(batch, CODE))
    assert code.count("self") > 100
    assert code.count("    ") > 1000


def test_windows_of_unicode_names_contain_only_characters_of_names(batch: Batch) -> None:
    assert all(re.fullmatch(r"[A-Z0-9 \n-]{9}", window) for window in windows(batch, NAMES))


@pytest.mark.parametrize(
    ("mix", "shares"),
    [
        ("usual", [0.4, 0.3, 0.2, 0.1]),
        ("even", [0.25, 0.25, 0.25, 0.25]),
        ("reversed", [0.1, 0.2, 0.3, 0.4]),
        ("code", [0.1, 0.7, 0.1, 0.1]),
        ("arithmetic", [0.1, 0.1, 0.1, 0.7]),
    ],
)
def test_domains_are_drawn_by_the_configured_shares(text: Text, mix: str, shares: list[float]) -> None:
    given = text.shares(RunConfig(task="text", domain_mix=mix))
    np.testing.assert_allclose(given.numpy(), shares, rtol=1e-6)
    for draw in (text.batch, text.held_out_batch):
        groups = draw(20_000, given, torch.Generator().manual_seed(0)).groups.numpy()
        # σ of a share is at most √(0.4 · 0.6 / 20 000) = 0.0035.
        np.testing.assert_allclose(np.bincount(groups, minlength=4) / 20_000, shares, atol=0.014)


def test_every_configurable_mix_exists_and_sums_to_one() -> None:
    assert tuple(MIXES) == KNOBS["domain_mix"].choices
    for mix in MIXES.values():
        assert len(mix) == len(DOMAINS) == 4
        assert sum(mix) == pytest.approx(1)


def test_held_out_windows_of_prose_come_from_the_held_out_part(text: Text, prose: str) -> None:
    batch = text.held_out_batch(2000, USUAL, torch.Generator().manual_seed(0))
    held_out_part = prose[-HELD_OUT_CHARACTERS:]
    found = [window in held_out_part for window in windows(batch, PROSE)]
    assert len(found) > 700
    assert all(found)
    # They cover it from beginning to end.
    places = [held_out_part.find(window) for window in windows(batch, PROSE)]
    assert min(places) < 0.05 * HELD_OUT_CHARACTERS
    assert max(places) > 0.95 * HELD_OUT_CHARACTERS


def test_held_out_windows_of_other_domains_look_like_those_domains(text: Text) -> None:
    batch = text.held_out_batch(2000, USUAL, torch.Generator().manual_seed(0))
    assert all(re.fullmatch(r"[0-9*+=;\n]{9}", window) for window in windows(batch, ARITHMETIC))
    assert all(re.fullmatch(r"[A-Z0-9 \n-]{9}", window) for window in windows(batch, NAMES))


@pytest.mark.parametrize("held_out", [False, True], ids=["training", "held out"])
def test_a_token_that_keeps_its_domain_under_another_mix_is_the_same_token(text: Text, held_out: bool) -> None:
    draw = text.held_out_batch if held_out else text.batch
    one, other = (draw(500, torch.tensor(MIXES[mix]), torch.Generator().manual_seed(3)) for mix in ("usual", "code"))
    same = one.groups == other.groups
    assert 100 < same.sum() < 500
    assert torch.equal(one.inputs[same], other.inputs[same])
    assert torch.equal(one.labels[same], other.labels[same])


def test_windows_come_from_the_whole_corpus(batch: Batch, prose: str) -> None:
    places = [prose.find(window) for window in windows(batch, PROSE)[:2000] if prose.count(window) == 1]
    tenths = np.bincount([10 * place // len(prose) for place in places], minlength=10) / len(places)
    # Not 10 % each, because only windows that occur once count, and some tenths repeat others: measured 6 to 15 %.
    assert len(places) > 200
    assert tenths.min() > 0.01


def test_one_passage_of_each_domain_is_held_out(text: Text, prose: str) -> None:
    passages = text.held_out.passages
    assert [len(passage) for passage in passages] == [PASSAGE] * 4
    assert passages[PROSE] in prose[-HELD_OUT_CHARACTERS:]
    assert passages[PROSE] not in prose[:-HELD_OUT_CHARACTERS]


def test_the_labels_of_the_held_out_tokens_are_the_characters_of_the_passages(text: Text) -> None:
    batch, passages = text.held_out.batch, text.held_out.passages
    assert "".join(ALPHABET[label] for label in batch.labels.tolist()) == "".join(passages)
    assert batch.groups.tolist() == [domain for domain in range(4) for _ in range(PASSAGE)]
    assert text.held_out.positions is None


def test_the_context_of_a_held_out_token_is_the_text_before_it(text: Text) -> None:
    # The first eight characters of a passage are the context of its ninth, and so on.
    for domain, passage in enumerate(text.held_out.passages):
        contexts = [window[:-1] for window in windows(text.held_out.batch, domain)]
        assert contexts[CONTEXT:] == [passage[i - CONTEXT : i] for i in range(CONTEXT, PASSAGE)]


def test_whole_lines_of_names_and_arithmetic_are_correct(text: Text) -> None:
    names = text.held_out.passages[NAMES].split("\n")[:-1]
    sums = text.held_out.passages[ARITHMETIC].split("\n")[:-1]
    assert len(names) > 1
    assert len(sums) > 5
    assert all(unicodedata.lookup(name) for name in names)
    for line in sums:
        a, sign, b, result = re.fullmatch(r"(\d+)([*+])(\d+)=(\d+);", line).groups()
        assert int(result) == (int(a) * int(b) if sign == "*" else int(a) + int(b))


def test_the_same_generator_gives_the_same_batch(text: Text) -> None:
    first, again, other = (text.batch(100, USUAL, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)


def test_the_stem_turns_characters_into_normalized_vectors(text: Text, batch: Batch) -> None:
    vectors = text.stem(torch.Generator().manual_seed(0))(batch.inputs[:100])
    assert vectors.shape == (100, text.width)
    np.testing.assert_allclose(vectors.mean(1).detach().numpy(), 0, atol=1e-5)
    np.testing.assert_allclose(vectors.var(1, correction=0).detach().numpy(), 1, atol=1e-2)
