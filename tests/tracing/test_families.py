"""The routing of transformers' own models is counted to the integer, as an independent instrument counts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import moe_sim
from tests.support.families import FAMILIES, counted, counts_of, make_batch, make_model

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, about its own settings


def counts_in(history: moe_sim.TraceHistory, row: int, name: str, column: str = "load") -> list[int]:
    layer = history.layer_names.index(name)
    begin, end = history.header.offsets[layer : layer + 2]
    if column == "load":
        return history._tables["load"][row, begin:end].tolist()
    return history._evaluations[row].counts[begin:end].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_equal_those_of_an_independent_instrument(family: str, tmp_path: Path) -> None:
    """Padding, four forward passes a step, checkpointing, and an evaluation between two steps."""
    model = make_model(family)
    model.train()
    if family != "jetmoe":  # which does not support it
        model.gradient_checkpointing_enable({"use_reentrant": False})
    expected: list[tuple[dict[str, list[np.ndarray]], list[np.ndarray]]] = []
    with moe_sim.watch(model, tmp_path) as trace:
        for step in range(3):
            batches = [make_batch(4 * step + part) for part in range(4)]
            with counted(model) as seen:
                losses = [model(**batch).loss for batch in batches]
                forward_only = {name: choices[:] for name, choices in seen.items()}
                sum(losses).backward()
            expected.append((forward_only, [batch["attention_mask"].numpy() for batch in batches]))
            if step == 1:
                model.eval()
                with counted(model) as evaluated, torch.no_grad():
                    model(**make_batch(99))
                model.train()
            trace.step(task_loss=losses[0])
    history = moe_sim.open_trace(tmp_path)
    assert len(history) == 3
    assert set(history.layer_names) == set(expected[0][0])
    for row, (seen, masks) in enumerate(expected):
        for name, choices in seen.items():
            assert counts_in(history, row, name) == counts_of(choices, masks, 8)
    mask = [make_batch(99)["attention_mask"].numpy()]
    for name, choices in evaluated.items():
        assert counts_in(history, 1, name, "eval_load") == counts_of(choices, mask, 8)
    assert np.isnan(history.column("eval_load")[[0, 2]]).all()


def test_there_are_enough_families() -> None:
    assert {
        "mixtral",
        "olmoe",
        "qwen3_moe",
        "deepseek_v3",
        "gpt_oss",
        "phimoe",
        "granitemoe",
        "jetmoe",
        "glm4_moe",
    } <= {*FAMILIES}
    assert len(FAMILIES) >= 10


@pytest.mark.parametrize(
    ("family", "scores"),
    [("mixtral", "logits"), ("deepseek_v3", "sigmoid"), ("ernie4_5_moe", "probabilities"), ("jetmoe", "logits")],
)
def test_what_a_router_offers_is_told_by_its_values(family: str, scores: str, tmp_path: Path) -> None:
    model = make_model(family).train()
    with moe_sim.watch(model, tmp_path) as trace:
        model(**make_batch(0))
        trace.step()
        assert {layer.scores for layer in trace.layers} == {scores}
    importance = moe_sim.open_trace(tmp_path).column("importance")
    np.testing.assert_allclose(importance.sum(-1), 1, atol=1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_repeated_forward_pass_is_counted_once(reentrant: bool, tmp_path: Path) -> None:
    model = make_model("qwen3_moe").train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    with moe_sim.watch(model, tmp_path) as trace:
        for seed in range(2):
            model(**make_batch(seed)).loss.backward()
            trace.step()
    assert moe_sim.open_trace(tmp_path)._tables["tokens"][:2].tolist() == [[24] * 3] * 2


def test_the_load_balancing_loss_equals_that_of_transformers(tmp_path: Path) -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    model = make_model("mixtral", output_router_logits=True).train()
    batch = make_batch(3)
    with moe_sim.watch(model, tmp_path) as trace:
        logits = model(**batch).router_logits
        trace.step()
    history = moe_sim.open_trace(tmp_path)
    for layer in range(3):
        theirs = load_balancing_loss_func((logits[layer],), 8, 2, batch["attention_mask"])
        # Theirs counts choices by tokens, ours by choices: k times as much.
        assert 2 * history.by_layer("balance_loss")[0, layer] == pytest.approx(float(theirs), abs=1e-5)
