"""A prompt to the language model: its continuation, the experts of its characters, and what an expert is worth."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from moe_sim import RunConfig, Trainer
from moe_sim.config.errors import InvalidInput
from moe_sim.tasks.corpora import encode
from moe_sim.trainer.prompting import CONTINUATION, LONGEST_PROMPT, Prompt, answer
from tests.support.inspecting import weights


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    trainer = Trainer(RunConfig(
        task="language", num_layers=2, num_experts=4, top_k=2, renormalize=True, batch_tokens=128, warmup_steps=20,
    ))  # fmt: skip
    trainer.run(60)
    return trainer


def test_the_answer_begins_with_the_prompt_and_names_an_expert_for_each_character_and_layer(trainer: Trainer) -> None:
    before = weights(trainer)
    found = answer(trainer, Prompt("The object"))
    assert found["text"].startswith("The object")
    assert (found["prompt"], found["step"]) == (10, 60)
    assert len(found["text"]) == 10 + CONTINUATION
    assert [len(layer) for layer in found["experts"]] == [90, 90]
    assert {expert for layer in found["experts"] for expert in layer} <= set(range(4))
    assert set(found) == {"step", "text", "prompt", "experts"}
    assert json.loads(json.dumps(found)) == found == answer(trainer, Prompt("The object"))
    assert all((value == before[name]).all() for name, value in weights(trainer).items())


def test_the_experts_are_those_of_the_networks_own_routing(trainer: Trainer) -> None:
    found = answer(trainer, Prompt("x = "))
    first = torch.from_numpy(encode(found["text"]).astype(int))[:64]
    with torch.no_grad():
        _, routings = trainer.network(first, trainer.config, trainer.mechanisms, inference=True)
    for layer, routing in zip(found["experts"], routings, strict=True):
        assert layer[:64] == routing.expert_index[:, 0].tolist()


def test_an_expert_that_is_switched_off_adds_nothing(trainer: Trainer) -> None:
    layer, expert = 1, 2
    found = answer(trainer, Prompt("The", (layer, expert)))
    experts = trainer.network.layers[layer].experts
    batch = trainer.evaluation_batch

    def loss() -> float:
        with torch.no_grad():
            logits, _ = trainer.network(batch.inputs, trainer.config, trainer.mechanisms, inference=True)
        return F.cross_entropy(logits, batch.labels).item()

    assert found["loss"] == pytest.approx(loss(), abs=1e-6)
    for name, off in (("loss_without", expert), ("loss_without_other", found["other"])):
        kept = [experts.weight_out[off].clone(), experts.bias_out[off].clone()]
        with torch.no_grad():
            experts.weight_out[off], experts.bias_out[off] = 0.0, 0.0
            assert found[name] == pytest.approx(loss(), abs=1e-6)
            experts.weight_out[off], experts.bias_out[off] = kept
    assert found["other"] != expert
    assert found["loss_without"] != found["loss"]


def test_a_prompt_that_cannot_be_answered_is_refused_with_a_sentence(trainer: Trainer) -> None:
    for text in ("", "x" * (LONGEST_PROMPT + 1)):
        with pytest.raises(InvalidInput, match="Type 1 to 200 characters"):
            Prompt(text)
    with pytest.raises(InvalidInput, match="knows none of these characters"):
        answer(trainer, Prompt("你好"))
    for off in ((2, 0), (0, 4)):
        with pytest.raises(InvalidInput, match="There is no expert"):
            answer(trainer, Prompt("The", off))
    with pytest.raises(InvalidInput, match="Only a language model"):
        answer(Trainer(RunConfig()), Prompt("The"))
