"""The language task: sequences of real text, or of a visitor's own, of which the ends are held out."""

from __future__ import annotations

import gc
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import RunConfig, Trainer
from moe_sim.config.errors import InvalidInput
from moe_sim.tasks.corpora import ALPHABET, DOMAINS, MIXES, decode, encode, encoded_corpora
from moe_sim.tasks.language import PASSAGE, SEQUENCE, Language
from moe_sim.tasks.own_text import LONGEST, PARTS, SHORTEST, UNUSED, OwnText, known_text, own_text
from moe_sim.tasks.task import generators

TALE = "".join(f"Fräulein {i} aß {i * 7 % 13} Äpfel und ging nach Köln.\n" for i in range(400))


def language(**knobs: object) -> Language:
    random = generators(0)
    return Language(RunConfig(task="language", **knobs), random["task"], random["held_out"])


@pytest.fixture
def tale() -> OwnText:
    return own_text(TALE)


def test_a_batch_is_sequences_and_every_token_is_labelled_with_the_next_character() -> None:
    task = language()
    batch = task.batch(512, torch.tensor(MIXES["usual"]), torch.Generator().manual_seed(0))
    assert batch.inputs.shape == batch.labels.shape == batch.groups.shape == (512,)
    train, _ = encoded_corpora()
    texts = [decode(text) for text in train]
    for start in range(0, 512, SEQUENCE):
        sequence = slice(start, start + SEQUENCE)
        inputs, labels = batch.inputs[sequence], batch.labels[sequence]
        assert torch.equal(inputs[1:], labels[:-1])
        (group,) = set(batch.groups[sequence].tolist())
        assert decode([*inputs.tolist(), int(labels[-1])]) in texts[group]


def test_held_out_sequences_are_in_no_training_text() -> None:
    task = language()
    batch = task.held_out_batch(64 * SEQUENCE, torch.tensor(MIXES["prose"]), torch.Generator().manual_seed(0))
    assert not batch.groups.any()
    train, held_out = encoded_corpora()
    prose, end = decode(train[0]), decode(held_out[0])
    sequences = [decode(row) for row in batch.inputs.view(-1, SEQUENCE).tolist()]
    assert all(sequence in end for sequence in sequences)
    assert sum(sequence in prose for sequence in sequences) == 0


def test_passages_are_the_inputs_of_the_held_out_tokens() -> None:
    task = language()
    assert len(task.held_out.passages) == len(DOMAINS)
    assert "".join(task.held_out.passages) == decode(task.held_out.batch.inputs.tolist())
    assert len(task.held_out.batch.inputs) == 4 * PASSAGE


def test_the_language_model_learns() -> None:
    trainer = Trainer(RunConfig(
        task="language", num_layers=2, top_k=2, renormalize=True, batch_tokens=256, warmup_steps=50, aux_loss_coef=0.02,
    ))  # fmt: skip
    history = trainer.run(250)
    # Measured: 3.0 nats after 250 steps; characters drawn by their frequency in the mix cost 3.5.
    assert history.column("task_loss")[0] > 4.4
    assert history.column("eval_task_loss")[249] < 3.2


@pytest.mark.parametrize("tokens", [32, 96, 100])
def test_tokens_that_fill_no_sequences_are_refused_with_a_sentence(tokens: int) -> None:
    with pytest.raises(ValueError, match="must be a multiple of 64 for the language task"):
        RunConfig(task="language", batch_tokens=tokens)
    RunConfig(task="text", batch_tokens=tokens)


def test_a_text_of_ones_own_is_learned_with_its_own_alphabet_and_its_ends_are_held_out(tale: OwnText) -> None:
    assert set(TALE) <= set(tale.alphabet)
    assert tale.alphabet.endswith(UNUSED)
    task = language(own_text=tale.key)
    assert task.group_names == PARTS
    assert len(task.alphabet) == task.classes == len(ALPHABET)
    whole = "".join(
        decode(text, tale.alphabet) for pair in zip(tale.train, tale.held_out, strict=True) for text in pair
    )
    assert whole == TALE
    assert all(passage in TALE for passage in task.held_out.passages)
    assert all(passage not in decode(np.concatenate(tale.train), tale.alphabet) for passage in task.held_out.passages)
    batch = task.batch(64 * 64, task.shares(RunConfig(domain_mix="prose")), torch.Generator().manual_seed(0))
    assert np.bincount(batch.groups, minlength=4).min() > 64 * 5


def test_two_who_paste_the_same_text_share_it_and_it_is_forgotten_with_the_last(tale: OwnText) -> None:
    again = own_text(TALE.replace("\n", "\r\n"))
    assert again is tale is known_text(tale.key)
    other = own_text(TALE + "Ende.")
    assert other.key != tale.key
    key = other.key
    task = language(own_text=key)
    del other
    gc.collect()
    assert known_text(key) is task.own_text
    del task
    gc.collect()
    with pytest.raises(InvalidInput, match="not stored anywhere"):
        known_text(key)
    with pytest.raises(InvalidInput, match="not stored anywhere"):
        Trainer(RunConfig(task="language", own_text=key))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("", "at least 6,000"), ("short", "has 5"), ("ab" * SHORTEST, "8 different"), ("x" * (LONGEST + 1), "1,000,001"),
     ("\x00\x01" * SHORTEST, "has 0")],
    ids=["empty", "short", "monotonous", "long", "control characters"],
)  # fmt: skip
def test_an_unsuitable_text_is_refused_with_a_sentence(content: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        own_text(content)


@given(content=st.text(min_size=50, max_size=300).map(lambda text: text * 150))
def test_any_long_text_is_taken_or_refused_with_a_sentence(content: str) -> None:
    text = None
    with suppress(InvalidInput):
        text = own_text(content)
    if text is None:
        return
    assert len(text.alphabet) == len(ALPHABET)
    assert min(map(len, text.held_out)) > PASSAGE
    trainer = Trainer(RunConfig(task="language", own_text=text.key, batch_tokens=64, num_experts=2))
    assert trainer.step() is not None
    assert all(len(passage) == PASSAGE for passage in trainer.held_out.passages)


@given(text=st.text(alphabet=ALPHABET, max_size=80))
def test_encoding_is_undone_by_decoding(text: str) -> None:
    assert decode(encode(text)) == text
