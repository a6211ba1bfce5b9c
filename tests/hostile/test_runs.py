"""Every uploaded run file gives a run or one sentence, quickly and in little memory."""

from __future__ import annotations

import json
import time
import tomllib
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from moe_sim import Event, RunConfig, Trainer
from moe_sim.config.limits import MOST_STEPS
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_json import LARGEST_TEXT, run_to_json
from pages.sidebar import sharing
from pages.sweeps import upload
from tests.support.hostile import assert_sentence, spoiled, value

TIMEOUT = 20.0
"""Time limit in seconds for the worst file, on a loaded machine."""
LARGEST_MEMORY = 400_000_000
"""Peak of Python's memory in bytes for the worst file: ten times its size."""
CONFIG = Path(__file__).parents[2] / ".streamlit" / "config.toml"


def small_run() -> str:
    trainer = Trainer(RunConfig(num_experts=2, batch_tokens=32))
    trainer.run(3)
    trainer.update(aux_loss_coef=0.1)
    trainer.run(2)
    return run_to_json(trainer.history)


RUN = small_run()


def run_or_sentence(text: str) -> bool:
    """Whether the text was accepted as a run."""
    try:
        history, _ = run_from_json(text)
    except ValueError as refusal:
        error = refusal
        assert type(error) is ValueError
        assert_sentence(str(error))
        return False
    assert len(history) <= MOST_STEPS
    assert all(isinstance(event, Event) for event in history.events)
    return True


def test_a_thousand_corrupted_runs_give_a_run_or_a_sentence() -> None:
    random = np.random.default_rng(0)
    accepted = sum(run_or_sentence(spoiled(RUN.encode(), random).decode("utf-8", "replace")) for _ in range(1_000))
    assert 0 < accepted < 500, "a changed digit can give another valid run, but most files are broken"


def test_five_hundred_runs_with_a_random_part_replaced_give_a_run_or_a_sentence() -> None:
    random = np.random.default_rng(1)
    for _ in range(500):
        whole: Any = json.loads(RUN)
        part: Any = whole
        for _ in range(random.integers(4)):
            inner = [one for one in (part.values() if isinstance(part, dict) else part) if isinstance(one, dict | list)]
            part = inner[random.integers(len(inner))] if inner else part
        key: Any = random.choice([*part]) if isinstance(part, dict) else int(random.integers(len(part)))
        part[key] = value(random)
        run_or_sentence(json.dumps(whole))
        run_or_sentence(json.dumps(value(random)))


@pytest.mark.parametrize(
    "make",
    [lambda: "[" + "0," * 19_000_000 + "0]", lambda: "[" * 40_000_000, lambda: '["' + "x" * 39_000_000 + '"]',
     lambda: "1" * 40_000_000, lambda: "[0." + "1" * 39_000_000 + "]", lambda: '{"a":0,' * 5_000_000,
     lambda: "\x00" * 40_000_000, lambda: " " * 40_000_001,
     lambda: '{"format":"expert-collapse-lab-run",' + " " * 10**7],
    ids=["numbers", "lists", "word", "digits", "fraction", "objects", "nul", "blanks", "cut off"],
)  # fmt: skip
def test_a_file_that_could_exhaust_the_machine_is_rejected_quickly_and_in_little_memory(
    make: Callable[[], str],
) -> None:
    text = make()
    assert len(text) <= LARGEST_TEXT + 1
    tracemalloc.start()
    start = time.perf_counter()
    try:
        assert not run_or_sentence(text)
        assert time.perf_counter() - start < TIMEOUT
        assert tracemalloc.get_traced_memory()[1] < LARGEST_MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "utf-7"])
def test_a_run_in_another_encoding_gets_a_sentence(encoding: str) -> None:
    visitor = SimpleNamespace(notices=[])
    sharing._load(visitor, RUN.replace("expert", "éxpert").encode(encoding))  # type: ignore[arg-type]
    (sentence,) = visitor.notices
    assert_sentence(sentence)


def test_the_server_limits_uploads_and_messages_to_what_the_app_needs() -> None:
    server = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["server"]
    assert server["maxUploadSize"] * 2**20 >= LARGEST_TEXT > (server["maxUploadSize"] - 10) * 2**20
    assert server["maxUploadSize"] >= max(sharing.LARGEST_UPLOAD, upload.LARGEST_UPLOAD)
    assert server["maxMessageSize"] <= 50
