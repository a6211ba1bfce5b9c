"""The demonstration: it trains what it says, records it, and leaves torch as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from moe_sim.cli.main import main
from moe_sim.config.errors import MissingPackage
from moe_sim.history.trace import open_trace
from moe_sim.tasks.corpora import DOMAINS
from moe_sim.tracing import demonstration
from moe_sim.tracing.demonstration import DEMONSTRATIONS, LENGTH, RESCUE, SEQUENCES, STRONG, demonstrate

STEPS = 4


@pytest.mark.parametrize("one", DEMONSTRATIONS, ids=lambda one: one.name)
def test_each_model_is_trained_and_watched(one: demonstration.Demonstration, tmp_path: Path) -> None:
    seed, state, threads = torch.initial_seed(), torch.get_rng_state(), torch.get_num_threads()
    reported: list[tuple[str, int]] = []
    demonstrate(tmp_path, STEPS, lambda name, step: reported.append((name, step)), (one,))
    assert reported == [(one.name, step) for step in range(1, STEPS + 1)]
    assert torch.initial_seed() == seed
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads

    history = open_trace(tmp_path / one.name)
    assert len(history) == STEPS
    assert history.num_layers == 4
    assert history.header.groups == DOMAINS
    top_k = one.settings["num_experts_per_tok"]
    assert (history.pairs() == top_k * SEQUENCES * LENGTH).all()
    assert history.header.settings["router_aux_loss_coef"] == one.coefficient
    late = {"": one.coefficient, "own loss": STRONG, "loss of each layer": RESCUE}[one.rescue]
    assert history.column("coefficient").tolist() == pytest.approx([one.coefficient, one.coefficient, late, late])
    # The model's own loss over all layers together, K at balance, from the counts and probabilities of the record.
    load, importance = history.column("load").mean(1), history.column("importance").mean(1)
    own = history.num_experts * (top_k * load * importance).sum(1)
    np.testing.assert_allclose(history.column("aux_loss"), own, rtol=1e-4)


def test_the_command_prints_the_verdict_on_each_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["demo", "--out", str(tmp_path), "--steps", "2", "--only", "mixtral-rescued"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"streamlit run app.py -- --runs {tmp_path}" in printed
    assert "mixtral-rescued: " in printed
    assert main(command) == 2  # rather than to continue a trace of something else
    assert "holds a trace already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "mixtrall"], "--only must be one of mixtral-without-loss"),
        (["--steps", "0"], "--steps must be a whole number from 1"),
        (["--out", "README.md"], "README.md"),
    ],
)
def test_bad_options_get_a_sentence(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--steps", "1", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_without_transformers_the_command_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: str) -> None:
        raise MissingPackage("transformers", "The demonstration")

    monkeypatch.setattr(demonstration, "require", missing)
    with pytest.raises(MissingPackage, match="demo"):
        demonstrate(tmp_path)
